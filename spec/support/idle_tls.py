# SPDX-License-Identifier: Apache-2.0
"""Holds TLS connections that have had an answer each: idle_tls.py PORT COUNT VERSION. Prints a line once
all are idle, and ends when its standard input does."""
import socket
import ssl
import sys

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
if sys.argv[3] == "TLSv1.2":
    context.maximum_version = ssl.TLSVersion.TLSv1_2
held = []
for _ in range(int(sys.argv[2])):
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    client.sendall(b"GET /reply HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok"):
        answer += client.recv(4096)
    held.append(client)
print("idle", flush=True)
sys.stdin.read()
