-- SPDX-License-Identifier: Apache-2.0
return {
  name = "orders",
  paths = { "/orders" },
  backend = "origin",
  subscription = { required = true },
  operations = { get = { method = "GET", path = "/{id}" } },
}
