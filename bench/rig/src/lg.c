// Load generator: one thread, epoll, HTTP/1.1 keep-alive POST to loopback.
//
//   lg -p PORT -u PATH -c CONNS -d SECONDS [-r RATE] [-b BODYFILE] [-H "Name: v"]... [-s] [-n MAXREQ]
//
// Closed loop over CONNS connections, or (-r) RATE requests a second over them, with latency counted from the
// time a request should have been sent, as wrk2 does. Decodes Content-Length and chunked bodies and counts
// SSE "data:" events. Prints one line of JSON. "bad" are answers whose status is not 200 or that, with -s,
// lack "data: [DONE]" (-e END: "data:" and END).
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
typedef unsigned long long u64;
static u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000ull + t.tv_nsec;
}
enum { HEAD, BODY, CHUNKED };                                       // conn.st
enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, LAST_LF, CHUNK_EXT = 5 }; // conn.cst

typedef struct {
    int fd, busy;
    int st;         // what is read now
    char hb[16384]; // the head
    int hl;         // its length so far
    int status, chunked, keep;
    long left;  // of a body with Content-Length; -1: it ends with the connection
    u64 t0, tl; // sent (or due), last event
    int cst;    // where in a chunk
    long csz;   // what is left of it
    int bol, m; // at the beginning of a line; matched bytes of "data:"
    int dm;     // 1 + matched bytes of " [DONE]"
    int done;   // [DONE] was seen
    int got1;   // the first event was seen
    int ev;
} conn;

static char req[1 << 20]; // what each connection sends
static int reqlen;
static int port, nc = 1, expect = 0, ep; // expect: a stream
static double dur = 5, rate = 0;
static long maxreq = 0;
static float *lat, *ttft, *gap; // samples in ms, and how many of each
static long nl, nt, ng;
static const long cap = 4000000;
static u64 ok, bad, errs, evs, bytes, conns;
static char sample[600]; // the first body that came with another status than 200
static conn *C;
static u64 tend;

static int dial(conn *c) {
    if (c->fd >= 0)
        close(c->fd);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (void *)&a, sizeof a)) {
        close(c->fd);
        c->fd = -1;
        return -1;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    conns++;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    return 0;
}

static void send_(conn *c, u64 sched) {
    if (c->fd < 0 && dial(c)) {
        errs++;
        c->busy = 0;
        return;
    }
    c->busy = 1;
    c->st = HEAD;
    c->hl = 0;
    c->got1 = 0;
    c->done = 0;
    c->ev = 0;
    c->m = 0;
    c->bol = 1;
    c->dm = 0;
    c->t0 = sched;
    c->tl = 0;
    ssize_t r = write(c->fd, req, reqlen);
    if (r < 0) {
        if (dial(c)) {
            errs++;
            c->busy = 0;
            return;
        }
        r = write(c->fd, req, reqlen);
    }
    if (r != reqlen) {
        errs++;
        close(c->fd);
        c->fd = -1;
        c->busy = 0;
    }
}
static const char D[] = "data:", *DN = " [DONE]";
static int DL = 7;

static void body(conn *c, const char *p, int n, u64 t) {
    bytes += n;
    if (!expect) {
        if (!sample[0] && c->status != 200) {
            int k = n < 500 ? n : 500;
            memcpy(sample, p, k);
        }
        return;
    }
    if (c->status != 200 && !sample[0]) {
        int k = n < 500 ? n : 500;
        memcpy(sample, p, k);
    }
    int had = 0;
    const char *e = p + n;
    while (p < e) {
        if (c->bol || c->m || c->dm) {
            char ch = *p;
            if (c->dm) {
                if (ch == DN[c->dm - 1]) {
                    c->dm++;
                    if (c->dm == DL + 1) {
                        c->done = 1;
                        c->dm = 0;
                    }
                } else if (c->dm == 1 && ch == '[') {
                    c->dm = 3;
                } else
                    c->dm = 0;
            } else {
                if (ch == D[c->m]) {
                    c->m++;
                    c->bol = 0;
                    if (c->m == 5) {
                        c->ev++;
                        evs++;
                        had = 1;
                        c->m = 0;
                        c->dm = 1;
                    }
                } else {
                    c->m = 0;
                    c->bol = 0;
                }
            }
            if (ch == '\n') {
                c->bol = 1;
                c->m = 0;
                c->dm = 0;
            }
            p++;
        } else {
            const char *z = memchr(p, '\n', e - p);
            if (!z)
                break;
            c->bol = 1;
            p = z + 1;
        }
    }
    if (had) {
        if (!c->got1) {
            c->got1 = 1;
            if (nt < cap)
                ttft[nt++] = (t - c->t0) / 1e6;
        } else if (ng < cap)
            gap[ng++] = (t - c->tl) / 1e6;
        c->tl = t;
    }
}

static int fin(conn *c, u64 t) {
    int good = c->status == 200 && (!expect || c->done);
    if (good) {
        ok++;
        if (nl < cap)
            lat[nl++] = (t - c->t0) / 1e6;
    } else
        bad++;
    c->busy = 0;
    if (!c->keep) {
        close(c->fd);
        c->fd = -1;
    }
    return 1;
}

static int feed(conn *c, char *b, int n, u64 t) {
    int i = 0;
    while (i < n) {
        if (c->st == HEAD) {
            int k = n - i;
            if (c->hl + k > (int)sizeof c->hb)
                k = sizeof c->hb - c->hl;
            if (k <= 0)
                return -1;
            memcpy(c->hb + c->hl, b + i, k);
            int old = c->hl;
            c->hl += k;
            int from = old > 3 ? old - 3 : 0;
            char *e = memmem(c->hb + from, c->hl - from, "\r\n\r\n", 4);
            if (!e) {
                i += k;
                continue;
            }
            int hl = e + 4 - c->hb;
            i += hl - old;
            c->status = atoi(c->hb + 9);
            c->chunked = 0;
            c->left = -1;
            c->keep = 1;
            if (c->status == 100) {
                memmove(c->hb, c->hb + hl, c->hl - hl);
                c->hl = 0;
                continue;
            }
            char *p = c->hb;
            while (p < e) {
                char *z = memchr(p, '\n', e + 2 - p);
                if (!z)
                    break;
                z++;
                if (!strncasecmp(p, "content-length:", 15))
                    c->left = atol(p + 15);
                else if (!strncasecmp(p, "transfer-encoding:", 18))
                    c->chunked = 1;
                else if (!strncasecmp(p, "connection:", 11)) {
                    char *q = p + 11;
                    while (*q == ' ')
                        q++;
                    if (!strncasecmp(q, "close", 5))
                        c->keep = 0;
                }
                p = z;
            }
            if (c->chunked) {
                c->st = CHUNKED;
                c->cst = CHUNK_SIZE;
                c->csz = 0;
            } else if (c->left == 0) {
                fin(c, t);
                return 1;
            } else {
                c->st = BODY;
                if (c->left < 0)
                    c->keep = 0;
            }
        } else if (c->st == BODY) {
            int k = n - i;
            if (c->left >= 0 && k > c->left)
                k = c->left;
            body(c, b + i, k, t);
            i += k;
            if (c->left >= 0) {
                c->left -= k;
                if (!c->left) {
                    fin(c, t);
                    return 1;
                }
            }
        } else { // chunked
            if (c->cst == CHUNK_SIZE) {
                char ch = b[i++];
                if (ch == '\n') {
                    c->cst = c->csz ? CHUNK_DATA : LAST_LF;
                } else if (ch == ';') {
                    c->cst = CHUNK_EXT;
                } else {
                    int v = ch >= '0' && ch <= '9'                 ? ch - '0'
                            : (ch | 32) >= 'a' && (ch | 32) <= 'f' ? (ch | 32) - 'a' + 10
                                                                   : -1;
                    if (v >= 0)
                        c->csz = c->csz * 16 + v;
                }
            } else if (c->cst == CHUNK_EXT) {
                if (b[i++] == '\n')
                    c->cst = c->csz ? CHUNK_DATA : LAST_LF;
            } else if (c->cst == CHUNK_DATA) {
                int k = n - i;
                if (k > c->csz)
                    k = c->csz;
                body(c, b + i, k, t);
                i += k;
                c->csz -= k;
                if (!c->csz)
                    c->cst = CHUNK_END;
            } else if (c->cst == CHUNK_END) {
                if (b[i++] == '\n') {
                    c->cst = CHUNK_SIZE;
                    c->csz = 0;
                }
            } else {
                if (b[i++] == '\n') {
                    fin(c, t);
                    return 1;
                }
            }
        }
    }
    return 0;
}

static int cmp(const void *a, const void *b) {
    float x = *(float *)a, y = *(float *)b;
    return x < y ? -1 : x > y;
}

static void pct(const char *n, float *a, long k) {
    if (!k) {
        printf(",\"%s\":null", n);
        return;
    }
    qsort(a, k, 4, cmp);
    double s = 0;
    for (long i = 0; i < k; i++)
        s += a[i];
    printf(",\"%s\":{\"mean\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}", n, s / k, a[k / 2],
           a[(long)(k * .9)], a[(long)(k * .99)], a[k - 1]);
}

int main(int ac, char **av) {
    signal(SIGPIPE, SIG_IGN);
    char *path = "/v1/chat/completions", *bf = 0;
    char hd[8192] = "";
    int o;
    while ((o = getopt(ac, av, "p:u:c:d:r:b:H:sn:e:")) > 0)
        switch (o) {
        case 'p':
            port = atoi(optarg);
            break;
        case 'u':
            path = optarg;
            break;
        case 'c':
            nc = atoi(optarg);
            break;
        case 'd':
            dur = atof(optarg);
            break;
        case 'r':
            rate = atof(optarg);
            break;
        case 'b':
            bf = optarg;
            break;
        case 'H':
            if (strlen(hd) + strlen(optarg) + 3 > sizeof hd)
                return 1;
            strcat(hd, optarg);
            strcat(hd, "\r\n");
            break;
        case 's':
            expect = 1;
            break;
        case 'n':
            maxreq = atol(optarg);
            break;
        case 'e':
            DN = optarg;
            DL = strlen(optarg);
            break;
        }
    static char b[1 << 19];
    int bl = 0;
    if (bf) {
        FILE *f = fopen(bf, "r");
        if (!f) {
            perror(bf);
            return 1;
        }
        bl = fread(b, 1, sizeof b, f);
        fclose(f);
        while (bl && (b[bl - 1] == '\n'))
            bl--;
    }
    reqlen = sprintf(req,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: OpenAI/Python 1.99.0\r\nAccept: "
                     "application/json\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n",
                     path, port, hd, bl);
    memcpy(req + reqlen, b, bl);
    reqlen += bl;
    lat = malloc(cap * 4);
    ttft = malloc(cap * 4);
    gap = malloc(cap * 4);
    ep = epoll_create1(0);
    C = calloc(nc, sizeof *C);
    for (int i = 0; i < nc; i++)
        C[i].fd = -1;
    u64 ts = now_ns();
    tend = ts + (u64)(dur * 1e9);
    u64 issued = 0;
    double per = rate > 0 ? 1e9 / rate : 0;
    if (!rate)
        for (int i = 0; i < nc; i++) {
            if (maxreq && (long)issued >= maxreq)
                break;
            send_(&C[i], now_ns());
            issued++;
        }
    static char buf[1 << 17];
    struct epoll_event es[256];
    u64 t;
    u64 hard = tend + 5000000000ull;
    int *fl = malloc(nc * sizeof(int)), nf = 0;
    for (int i = nc - 1; i >= 0; i--)
        fl[nf++] = i;
    if (!rate)
        nf = 0;
    u64 tlast = ts;
    for (;;) {
        t = now_ns();
        int busy = 0;
        if (rate > 0) {
            while (nf) {
                u64 sch = ts + (u64)(issued * per);
                if (sch > t || sch >= tend)
                    break;
                conn *c = &C[fl[--nf]];
                issued++;
                send_(c, sch);
                if (!c->busy)
                    fl[nf++] = c - C;
            }
        }
        if (t >= tend || (maxreq && (long)(ok + bad + errs) >= maxreq)) {
            for (int i = 0; i < nc; i++)
                busy += C[i].busy;
            if (!busy || t > hard)
                break;
        }
        int to = 100;
        if (rate > 0 && nf && t < tend) {
            u64 sch = ts + (u64)(issued * per);
            to = sch <= t ? 0 : (sch - t) / 1000000;
        }
        int n;
        if (rate > 0 && nf && t < tend) {
            u64 sch = ts + (u64)(issued * per);
            struct timespec w = {0, 0};
            if (sch > t) {
                u64 dd = sch - t;
                if (dd > 100000000)
                    dd = 100000000;
                w.tv_nsec = dd;
            }
            n = epoll_pwait2(ep, es, 256, &w, 0);
        } else
            n = epoll_wait(ep, es, 256, to);
        t = now_ns();
        for (int i = 0; i < n; i++) {
            conn *c = es[i].data.ptr;
            if (c->fd < 0)
                continue;
            ssize_t r = read(c->fd, buf, sizeof buf);
            if (r < 0 && errno == EAGAIN)
                continue;
            int f = 0;
            if (r <= 0) {
                if (c->busy) {
                    if (c->st == BODY && c->left < 0) {
                        c->keep = 0;
                        fin(c, t);
                        f = 1;
                    } else {
                        errs++;
                        c->busy = 0;
                        f = 1;
                        close(c->fd);
                        c->fd = -1;
                    }
                } else {
                    close(c->fd);
                    c->fd = -1;
                    continue;
                }
            } else {
                if (!c->busy)
                    continue;
                f = feed(c, buf, r, t);
                if (f < 0) {
                    errs++;
                    c->busy = 0;
                    close(c->fd);
                    c->fd = -1;
                    f = 1;
                }
            }
            if (f) {
                tlast = t;
                if (rate > 0)
                    fl[nf++] = c - C;
                else if (t < tend && (!maxreq || (long)issued < maxreq)) {
                    issued++;
                    send_(c, now_ns());
                }
            }
        }
        if (rate <= 0 && t < tend && !maxreq) {
            for (int i = 0; i < nc; i++)
                if (!C[i].busy && C[i].fd < 0) {
                    static u64 lastretry;
                    if (t - lastretry > 5000000 || errs < 100) {
                        lastretry = t;
                        send_(&C[i], now_ns());
                    }
                }
        }
    }
    double el = ((tlast > tend || maxreq ? tlast : tend) - ts) / 1e9;
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    printf("{\"ok\":%llu,\"bad\":%llu,\"errors\":%llu,\"elapsed\":%.4f,\"rps\":%.2f,\"events\":%llu,"
           "\"bytes\":%llu,\"conns\":%llu,\"cpu_s\":%.4f",
           ok, bad, errs, el, ok / el, evs, bytes, conns,
           ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
    pct("lat_ms", lat, nl);
    pct("ttft_ms", ttft, nt);
    pct("gap_ms", gap, ng);
    if (sample[0]) {
        printf(",\"sample\":\"");
        for (char *p = sample; *p; p++) {
            if (*p == '"' || *p == '\\')
                putchar('\\');
            if ((unsigned char)*p >= 32)
                putchar(*p);
        }
        printf("\"");
    }
    printf("}\n");
    return 0;
}
