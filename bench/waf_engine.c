// SPDX-License-Identifier: Apache-2.0
// CPU time per request of the rule engine alone: the five cases that the peers were measured with.
//
//   waf_engine [--crs FILE-OR-GLOB ...] [--rounds N] [--no-filter] [--fired]
//
// Without --crs: Debian's modsecurity-crs (3.3.4) at paranoia level 1, blocking.
#include "waf/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIT(s) ((struct waf_str){s, sizeof(s) - 1})

static const char settings[] =
    "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\n"
    "SecResponseBodyMimeType text/plain text/html text/xml\n"
    "SecRule REQUEST_HEADERS:Content-Type \"^application/json\" "
    "\"id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON\"\n"
    "SecRule REQBODY_ERROR \"!@eq 0\" \"id:200002,phase:2,t:none,log,deny,status:400\"\n"
    "SecDefaultAction \"phase:1,log,auditlog,deny,status:403\"\n"
    "SecDefaultAction \"phase:2,log,auditlog,deny,status:403\"\n"
    "SecAction \"id:900990,phase:1,nolog,pass,t:none,setvar:tx.crs_setup_version=334\"\n";

struct request {
    const char *name;
    const char *method, *uri;
    const char *type;
    char *body;
    const char *page; // answered with HTML
};

static const char *const browser[][2] = {
    {"Host", "shop.example.com"},
    {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                   "Chrome/120.0.0.0 Safari/537.36"},
    {"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"},
    {"Accept-Language", "en-US,en;q=0.9,de;q=0.8"},
    {"Accept-Encoding", "gzip, deflate, br"},
    {"Referer", "https://shop.example.com/catalog/books?page=2"},
    {"Connection", "keep-alive"},
    {"Cookie", "session=9f8c2b7a61d34e5f; theme=dark; cart=3f2504e0-4f89-11d3-9a0c-0305e82c3301"},
    {"Cache-Control", "max-age=0"},
    {"Sec-Fetch-Mode", "navigate"},
    {"X-Request-Id", "7b1d4c2e-88f0-4f0e-a9e5-2d6b1a3c4d5e"},
};

static char *form_body(void)
{
    static const char *const words[] = {"river",  "mountain",  "delivery", "invoice", "window",
                                        "garden", "reference", "customer", "morning", "quality"};
    char *p = malloc(16384);
    size_t n = 0;
    for (int f = 0; f < 25; f++) {
        n += (size_t)sprintf(p + n, "%sfield_%d=", f != 0 ? "&" : "", f);
        size_t stop = n + 395;
        for (int w = f; n < stop; w++) {
            n += (size_t)sprintf(p + n, "%s%s", words[(w * 7 + f) % 10], w % 9 == 8 ? "%2C+" : "+");
        }
        n--;
    }
    p[n] = '\0';
    return p;
}

static char *json_body(void)
{
    char *p = malloc(4096);
    size_t n = (size_t)sprintf(p, "{\"order\":{\"id\":48213,\"currency\":\"EUR\",\"items\":[");
    for (int i = 0; i < 5; i++) {
        n += (size_t)sprintf(
            p + n,
            "%s{\"sku\":\"AB-%04d-X\",\"title\":\"Steel bottle number %d in forest "
            "green\",\"quantity\":%d,\"price\":%d.95,\"note\":\"Please wrap item %d "
            "well, it is a present for a friend\"}",
            i != 0 ? "," : "", 1000 + i, i, i + 1, 20 + i, i);
    }
    sprintf(p + n, "],\"customer\":{\"name\":\"Anna Example\"}}}");
    return p;
}

static char *page_body(void)
{
    char *p = malloc(32768);
    size_t n = (size_t)sprintf(p, "<!doctype html><html><head><title>Books</title></head><body>");
    for (int i = 0; n < 22000; i++) {
        n += (size_t)sprintf(p + n,
                             "<p class=\"item\">Chapter %d tells of the river and of those "
                             "who live beside it.</p>\n",
                             i);
    }
    sprintf(p + n, "</body></html>");
    return p;
}

static struct waf_str str(const char *s)
{
    return (struct waf_str){s, strlen(s)};
}

static int run(struct waf_ruleset *rules, const struct request *r, bool tell)
{
    struct waf_verdict v = {0};
    struct waf_tx *tx = waf_tx_new(rules, NULL);
    char length[24];
    waf_tx_connection(tx, LIT("203.0.113.7"), 40000, LIT("10.0.0.1"), 443);
    waf_tx_unique_id(tx, LIT("01HZY3J8W2QK5M6N7P8R9S0T1V"));
    waf_tx_request_line(tx, str(r->method), str(r->uri), LIT("HTTP/1.1"));
    for (size_t i = 0; i < sizeof browser / sizeof browser[0]; i++) {
        waf_tx_request_header(tx, str(browser[i][0]), str(browser[i][1]));
    }
    if (r->body != NULL) {
        (void)snprintf(length, sizeof length, "%zu", strlen(r->body));
        waf_tx_request_header(tx, LIT("Content-Type"), str(r->type));
        waf_tx_request_header(tx, LIT("Content-Length"), str(length));
    }
    bool stop = waf_tx_request_headers(tx, &v);
    if (!stop && r->body != NULL) {
        stop = waf_tx_request_body_whole(tx, str(r->body), &v);
    }
    stop = stop || waf_tx_request_body_end(tx, &v);
    if (!stop) {
        waf_tx_response_line(tx, 200, LIT("HTTP/1.1"));
        waf_tx_response_header(tx, LIT("Content-Type"),
                               r->page != NULL ? LIT("text/html") : LIT("application/json"));
        stop = waf_tx_response_headers(tx, &v);
        if (r->page != NULL) {
            waf_tx_response_body(tx, str(r->page), &v);
        }
        stop = waf_tx_response_body_end(tx, &v);
    }
    waf_tx_logging(tx, 200);
    for (size_t i = 0; tell && i < waf_tx_fired_count(tx); i++) {
        struct waf_str l = waf_tx_error_log(tx, i);
        printf("    %.*s\n", (int)(l.n > 250 ? 250 : l.n), l.p);
    }
    int status = stop ? v.status : 200;
    waf_tx_free(tx);
    return status;
}

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
    struct waf_source sources[32] = {{WAF_SOURCE_TEXT, "settings", settings}};
    size_t n = 1;
    int rounds = 2000;
    bool fired = false;
    const char *only = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--crs") == 0 && i + 1 < argc && n < 32) {
            sources[n++] = (struct waf_source){WAF_SOURCE_FILE, argv[++i], NULL};
        } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            rounds = (int)strtol(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else if (strcmp(argv[i], "--no-filter") == 0) {
            waf_set_prefilter(false);
        } else if (strcmp(argv[i], "--fired") == 0) {
            fired = true;
        } else if (strcmp(argv[i], "--no-rules") == 0) {
            sources[n++] =
                (struct waf_source){WAF_SOURCE_TEXT, "none", "SecRuleRemoveById 1-999999999"};
        }
    }
    if (n == 1) {
        sources[n++] =
            (struct waf_source){WAF_SOURCE_FILE, "/usr/share/modsecurity-crs/rules/*.conf", NULL};
    }
    struct waf_error error;
    double t0 = cpu_us();
    struct waf_ruleset *rules = waf_ruleset_load(sources, n, &error);
    if (rules == NULL) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    printf("load %.0f ms, %zu rules, %.1f MiB\n", (cpu_us() - t0) / 1000,
           waf_ruleset_rule_count(rules), (double)waf_ruleset_memory(rules) / 1048576);
    const char *get =
        "/catalog/books?page=2&sort=price&q=blue%20garden+chair&lang=en&ref=newsletter";
    struct request requests[] = {
        {"get", "GET", get, NULL, NULL, NULL},
        {"json", "POST", "/api/orders", "application/json", json_body(), NULL},
        {"form", "POST", "/checkout", "application/x-www-form-urlencoded", form_body(), NULL},
        {"attack", "GET", "/catalog/books?page=2&q=1%27+UNION+SELECT+name%2Cpassword+FROM+users--",
         NULL, NULL, NULL},
        {"page", "GET", get, NULL, NULL, page_body()},
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        double best = 1e9;
        if (only != NULL && strcmp(only, requests[i].name) != 0) {
            continue;
        }
        int status = run(rules, &requests[i], fired);
        for (int round = 0; round < 5; round++) {
            double from = cpu_us();
            for (int k = 0; k < rounds; k++) {
                run(rules, &requests[i], false);
            }
            double each = (cpu_us() - from) / rounds;
            best = each < best ? each : best;
        }
        printf("%-7s status %d  body %5zu  %8.2f us\n", requests[i].name, status,
               requests[i].body != NULL ? strlen(requests[i].body) : 0, best);
    }
    waf_ruleset_release(rules);
    return 0;
}
