// Mock OpenAI upstream: one thread, epoll, HTTP/1.1 keep-alive; any POST is a chat completion.
//
// Not a stream: a fixed answer of 624 bytes with Content-Length. A stream ("stream":true in the body): a role
// event, MOCK_CHUNKS - 1 tokens, finish, usage and [DONE], each event an HTTP chunk and a write() of its own.
// Environment: MOCK_PORT (9100), MOCK_DELAY_MS (0, before the first byte), MOCK_CHUNKS (50), MOCK_GAP_US (0,
// between events). While it runs: GET /_ctl?delay_ms=..&gap_us=.. changes them, GET /_stats counts.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
typedef unsigned long long u64;
#define INB 65536
typedef struct conn {
    int fd, inlen, cap, stream, idx, closing;
    char *in;
    char *out;
    int outlen, outoff, outcap;
    u64 due;
    struct conn *qn;
    int inq;
    unsigned gen;
} conn;

static u64 now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}
static long delay_us = 0, gap_us = 0;
static int nchunks = 50;
static char *resp;
static int resplen;
static char **ev;
static int *evl;
static int nev;
static const char SH[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: "
    "no-cache\r\nx-request-id: req_mock\r\nTransfer-Encoding: chunked\r\n\r\n";
static u64 n_req, n_stream, n_conn;
typedef struct {
    conn *h, *t;
} q;
static q qd, qg;
static int ep;

static void push(q *k, conn *c) {
    c->qn = 0;
    c->inq = 1;
    if (k->t)
        k->t->qn = c;
    else
        k->h = c;
    k->t = c;
}

static void obuf(conn *c, const char *p, int n) {
    if (c->outlen + n > c->outcap) {
        c->outcap = (c->outlen + n) * 2;
        c->out = realloc(c->out, c->outcap);
    }
    memcpy(c->out + c->outlen, p, n);
    c->outlen += n;
}

static void arm(conn *c, int w) {
    struct epoll_event e = {.events = EPOLLIN | (w ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static int flush_(conn *c) {
    while (c->outoff < c->outlen) {
        ssize_t r = write(c->fd, c->out + c->outoff, c->outlen - c->outoff);
        if (r < 0) {
            if (errno == EAGAIN) {
                arm(c, 1);
                return 0;
            }
            return -1;
        }
        c->outoff += r;
    }
    c->outoff = c->outlen = 0;
    return 1;
}

static int put(conn *c, const char *p, int n) {
    if (c->outlen == 0) {
        ssize_t r = write(c->fd, p, n);
        if (r == n)
            return 1;
        if (r < 0) {
            if (errno != EAGAIN)
                return -1;
            r = 0;
        }
        obuf(c, p + r, n - r);
        arm(c, 1);
        return 0;
    }
    obuf(c, p, n);
    return 0;
}

static int parse(conn *c);

static void kill_(conn *c) {
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    c->closing = 1;
    if (!c->inq) {
        free(c->in);
        free(c->out);
        free(c);
    }
}

static int step(conn *c) { // send what is due; 1 finished
    if (!c->stream) {
        if (put(c, resp, resplen) < 0)
            return -1;
        return 1;
    }
    if (c->idx == 0) {
        if (put(c, SH, sizeof SH - 1) < 0)
            return -1;
    }
    do {
        if (put(c, ev[c->idx], evl[c->idx]) < 0)
            return -1;
        c->idx++;
        if (c->idx == nev)
            return 1;
        if (gap_us > 0 && c->idx <= nchunks)
            break;
    } while (1);
    c->due = now_us() + gap_us;
    push(&qg, c);
    return 0;
}

static int startresp(conn *c) {
    c->idx = 0;
    if (delay_us > 0) {
        c->due = now_us() + delay_us;
        push(&qd, c);
        return 0;
    }
    return step(c);
}

static int parse(conn *c) {
    while (!c->inq) {
        if (c->inlen == 0)
            return 0;
        char *e = memmem(c->in, c->inlen, "\r\n\r\n", 4);
        if (!e)
            return 0;
        int hl = e - c->in + 4;
        long cl = 0;
        int chunked = 0;
        char *p = c->in;
        while (p < e) {
            char *n = memchr(p, '\n', e + 2 - p);
            if (!n)
                break;
            n++;
            if ((n - p) > 15 && !strncasecmp(p, "content-length:", 15))
                cl = atol(p + 15);
            else if ((n - p) > 18 && !strncasecmp(p, "transfer-encoding:", 18))
                chunked = 1;
            else if ((n - p) > 7 && !strncasecmp(p, "expect:", 7)) {
                if (c->inlen == hl) {
                    if (write(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25) < 0)
                        return -1;
                }
            }
            p = n;
        }
        int tot;
        char *body = c->in + hl;
        if (chunked) {
            char *z = memmem(body, c->inlen - hl, "0\r\n\r\n", 5);
            if (!z)
                return 0;
            tot = z + 5 - c->in;
        } else {
            if (c->inlen - hl < cl)
                return 0;
            tot = hl + cl;
        }
        if (c->in[0] == 'G') {
            char b[512], h[700];
            b[0] = 0;
            if (!strncmp(c->in, "GET /_ctl?", 10)) {
                char *a = memmem(c->in, hl, "delay_ms=", 9);
                if (a)
                    delay_us = atof(a + 9) * 1000;
                a = memmem(c->in, hl, "gap_us=", 7);
                if (a)
                    gap_us = atol(a + 7);
                a = memmem(c->in, hl, "chunks=", 7);
                if (a && atoi(a + 7) < nchunks + 1) {
                }
                snprintf(b, sizeof b, "{\"delay_us\":%ld,\"gap_us\":%ld}", delay_us, gap_us);
            } else if (!strncmp(c->in, "GET /_stats", 11))
                snprintf(b, sizeof b, "{\"requests\":%llu,\"streams\":%llu,\"connections\":%llu}", n_req,
                         n_stream, n_conn);
            else
                snprintf(b, sizeof b,
                         "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4o-mini\",\"object\":\"model\","
                         "\"created\":1721172741,\"owned_by\":\"system\"}]}");
            int n =
                snprintf(h, sizeof h,
                         "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                         (int)strlen(b), b);
            memmove(c->in, c->in + tot, c->inlen - tot);
            c->inlen -= tot;
            if (put(c, h, n) < 0)
                return -1;
            continue;
        }
        n_req++;
        c->stream = 0;
        char *s = memmem(body, tot - hl, "\"stream\"", 8);
        if (s) {
            s += 8;
            while (s < c->in + tot && (*s == ' ' || *s == ':'))
                s++;
            if (*s == 't') {
                c->stream = 1;
                n_stream++;
            }
        }
        memmove(c->in, c->in + tot, c->inlen - tot);
        c->inlen -= tot;
        int r = startresp(c);
        if (r < 0)
            return -1;
        if (r == 0)
            return 0;
    }
    return 0;
}

static void runq(q *k, u64 t) {
    while (k->h && k->h->due <= t) {
        conn *c = k->h;
        k->h = c->qn;
        if (!k->h)
            k->t = 0;
        c->inq = 0;
        c->qn = 0;
        if (c->closing) {
            free(c->in);
            free(c->out);
            free(c);
            continue;
        }
        int r = step(c);
        if (r < 0) {
            kill_(c);
            continue;
        }
        if (r == 1 && parse(c) < 0)
            kill_(c);
    }
}

int main() {
    signal(SIGPIPE, SIG_IGN);
    int port = getenv("MOCK_PORT") ? atoi(getenv("MOCK_PORT")) : 9100;
    if (getenv("MOCK_DELAY_MS"))
        delay_us = atof(getenv("MOCK_DELAY_MS")) * 1000;
    if (getenv("MOCK_GAP_US"))
        gap_us = atol(getenv("MOCK_GAP_US"));
    if (getenv("MOCK_CHUNKS"))
        nchunks = atoi(getenv("MOCK_CHUNKS"));
    const char *bd =
        "{\"id\":\"chatcmpl-BxQ3mT7kP9sVwYz1aBcDeFgHiJkLm\",\"object\":\"chat.completion\",\"created\":"
        "1752000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
        "\"assistant\",\"content\":\"Hello! How can I assist you "
        "today?\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_"
        "details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_"
        "tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},"
        "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_62a23a81ef\"}";
    resp = malloc(4096);
    resplen = sprintf(resp,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: "
                      "req_mock\r\nopenai-processing-ms: 1\r\nContent-Length: %d\r\n\r\n%s",
                      (int)strlen(bd), bd);
    nev = nchunks + 3;
    ev = malloc(nev * sizeof *ev);
    evl = malloc(nev * sizeof *evl);
    for (int i = 0; i < nev; i++) {
        char d[1024];
        int n;
        const char *h = "{\"id\":\"chatcmpl-BxQ3mT7kP9sVwYz1aBcDeFgHiJkLm\",\"object\":\"chat.completion."
                        "chunk\",\"created\":1752000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_"
                        "tier\":\"default\",\"system_fingerprint\":\"fp_62a23a81ef\",";
        if (i == 0)
            n = sprintf(d,
                        "data: "
                        "%s\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\","
                        "\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
                        h);
        else if (i < nchunks)
            n = sprintf(d,
                        "data: %s\"choices\":[{\"index\":0,\"delta\":{\"content\":\" "
                        "tok%d\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
                        h, i);
        else if (i == nchunks)
            n = sprintf(d,
                        "data: "
                        "%s\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":"
                        "\"stop\"}],\"usage\":null}\n\n",
                        h);
        else if (i == nchunks + 1)
            n = sprintf(d,
                        "data: "
                        "%s\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":50,\"total_"
                        "tokens\":69,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
                        "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_"
                        "prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}\n\n",
                        h);
        else
            n = sprintf(d, "data: [DONE]\n\n");
        ev[i] = malloc(n + 64);
        evl[i] = sprintf(ev[i], "%x\r\n", n);
        memcpy(ev[i] + evl[i], d, n);
        evl[i] += n;
        evl[i] += sprintf(ev[i] + evl[i], "\r\n%s", i == nev - 1 ? "0\r\n\r\n" : "");
    }
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(ls, (void *)&a, sizeof a) || listen(ls, 4096)) {
        perror("bind");
        return 1;
    }
    ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = 0};
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &e);
    fprintf(stderr, "mock on %d, body %d bytes, %d events\n", port, (int)strlen(bd), nev);
    struct epoll_event es[256];
    for (;;) {
        int to = -1;
        u64 t = 0;
        if (qd.h || qg.h) {
            t = now_us();
            u64 m = ~0ull;
            if (qd.h)
                m = qd.h->due;
            if (qg.h && qg.h->due < m)
                m = qg.h->due;
            to = m <= t ? 0 : (int)((m - t + 999) / 1000);
        }
        int n = epoll_wait(ep, es, 256, to);
        for (int i = 0; i < n; i++) {
            conn *c = es[i].data.ptr;
            if (!c) {
                for (;;) {
                    int f = accept4(ls, 0, 0, SOCK_NONBLOCK);
                    if (f < 0)
                        break;
                    n_conn++;
                    setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    c = calloc(1, sizeof *c);
                    c->fd = f;
                    c->cap = INB;
                    c->in = malloc(INB);
                    struct epoll_event x = {.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(ep, EPOLL_CTL_ADD, f, &x);
                }
                continue;
            }
            if (c->fd < 0)
                continue;
            if (es[i].events & EPOLLOUT) {
                int r = flush_(c);
                if (r < 0) {
                    kill_(c);
                    continue;
                }
                if (r == 1)
                    arm(c, 0);
            }
            if (es[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                if (c->inlen == c->cap) {
                    c->cap *= 2;
                    c->in = realloc(c->in, c->cap);
                }
                ssize_t r = read(c->fd, c->in + c->inlen, c->cap - c->inlen);
                if (r == 0 || (r < 0 && errno != EAGAIN)) {
                    kill_(c);
                    continue;
                }
                if (r > 0) {
                    c->inlen += r;
                    if (parse(c) < 0)
                        kill_(c);
                }
            }
        }
        if (qd.h || qg.h) {
            t = now_us();
            runq(&qd, t);
            runq(&qg, t);
        }
    }
}
