/* What a C program does with the library, all of it, against a daemon that tests/round_trip.rs has started.
 *
 *   round_trip URL tcp|shm     everything, over that door
 *   round_trip URL leaving     calls a daemon that has hung up
 */

#include "bettong.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s does not hold; last error %u: %s\n", __LINE__, #condition,                    \
                    (unsigned)bettong_last_error()->status, bettong_last_error()->text);                               \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define OK(call) CHECK((call) == BETTONG_STATUS_OK)

/* Ends with this error, whose text has these words. */
#define FAILS(call, wanted, words)                                                                                     \
    do {                                                                                                               \
        CHECK((call) == (wanted));                                                                                     \
        CHECK(bettong_last_error()->status == (wanted));                                                               \
        CHECK(strstr(bettong_last_error()->text, words) != NULL);                                                      \
    } while (0)

#define IDENTITY "{\"model\":\"m\",\"kv_dtype\":\"bf16\",\"layout\":\"NHD\",\"block_tokens\":16,\"parts\":[0]}"
#define OPTIONS "{\"call_timeout_ms\": 20000, \"name\": \"round trip\"}"

enum { BLOCKS = 3, BLOCK_BYTES = 64 * 1024 };

static bettong_block_hash hashes[BLOCKS + 1];
static bettong_block_key keys[BLOCKS + 1];
static uint8_t bytes[BLOCKS][BLOCK_BYTES];

static void fill(void) {
    for (int i = 0; i <= BLOCKS; i++) {
        memset(hashes[i].bytes, 0x10 + i, sizeof hashes[i].bytes);
        keys[i].hash = hashes[i];
        keys[i].part = 0;
    }
    for (int i = 0; i < BLOCKS; i++) {
        for (int at = 0; at < BLOCK_BYTES; at++) {
            bytes[i][at] = (uint8_t)(at * 31 + at / 256 + i);
        }
    }
}

static void opening(const char *url) {
    bettong_client *client = NULL;
    bettong_namespace *ns = NULL;
    CHECK(bettong_abi_version() == BETTONG_ABI_VERSION);
    FAILS(bettong_open(url, BETTONG_ABI_VERSION + 1, NULL, &client), BETTONG_STATUS_INVALID, "version 2 of the ABI");
    CHECK(client == NULL);
    FAILS(bettong_open("http://x", BETTONG_ABI_VERSION, NULL, &client), BETTONG_STATUS_INVALID, "tcp://HOST:PORT");
    FAILS(bettong_open("tcp://127.0.0.1:1", BETTONG_ABI_VERSION, NULL, &client), BETTONG_STATUS_UNAVAILABLE, "127.0.0.1:1");
    FAILS(bettong_open("\xff", BETTONG_ABI_VERSION, NULL, &client), BETTONG_STATUS_INVALID, "the URL is not valid UTF-8");
    FAILS(bettong_open(url, BETTONG_ABI_VERSION, "{\"tenent\": 1}", &client), BETTONG_STATUS_INVALID, "tenent");
    FAILS(bettong_open(url, BETTONG_ABI_VERSION, NULL, NULL), BETTONG_STATUS_INVALID, "a place for the client");
    FAILS(bettong_namespace_open(NULL, "chat", IDENTITY, &ns), BETTONG_STATUS_INVALID, "null was given");
}

static void put(const bettong_namespace *ns) {
    bettong_block blocks[BLOCKS];
    bettong_stored stored[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = (bettong_block){
            .key = keys[i],
            .sequence = (uint32_t)i,
            .parent = i == 0 ? NULL : &hashes[i - 1],
            .bytes = {.data = bytes[i], .len = BLOCK_BYTES},
        };
    }
    FAILS(bettong_put_blocks(ns, blocks, BLOCKS, 0, stored), BETTONG_STATUS_INVALID, "level 0 is none");
    FAILS(bettong_put_blocks(ns, blocks, SIZE_MAX, BETTONG_LEVEL_OBJECT, NULL), BETTONG_STATUS_TOO_LARGE, "1024");
    CHECK(bettong_last_error()->limit == 1024);
    OK(bettong_put_blocks(ns, blocks, BLOCKS, BETTONG_LEVEL_JOURNAL, stored));
    CHECK(!stored[0].already && !stored[2].already && stored[2].put_id.counter > stored[0].put_id.counter);
    OK(bettong_put_blocks(ns, blocks, BLOCKS, BETTONG_LEVEL_JOURNAL, stored));
    CHECK(stored[0].already && stored[2].already);
}

static void look_up(const bettong_namespace *ns) {
    const bettong_part_ask here = {.part = 0}, elsewhere = {.part = 1};
    uint32_t blocks = 77;
    OK(bettong_lookup_prefix(ns, hashes, BLOCKS + 1, NULL, 0, &blocks));
    CHECK(blocks == BLOCKS);
    OK(bettong_lookup_prefix(ns, hashes, 2, &here, 1, &blocks));
    CHECK(blocks == 2);
    FAILS(bettong_lookup_prefix(ns, hashes, BLOCKS, &elsewhere, 1, &blocks), BETTONG_STATUS_INVALID, "part 1 is not one");
    CHECK(blocks == 0);
    FAILS(bettong_lookup_prefix(ns, NULL, 1, NULL, 0, &blocks), BETTONG_STATUS_INVALID, "hashes of a look-up");
}

/* How much of the daemon's memory this program holds. */
static int leases(const bettong_namespace *ns, const char *much) {
    char wanted[64];
    char *json = NULL;
    OK(bettong_stats(ns, &json));
    snprintf(wanted, sizeof wanted, "\"leased_bytes\":%s}", much);
    const int found = strstr(json, wanted) != NULL;
    OK(bettong_text_free(json));
    return found;
}

static void get(const bettong_namespace *ns, int in_place) {
    const bettong_read_limits limits = {.deadline_ms = 10000};
    bettong_miss_reason reason = BETTONG_MISS_REASON_NO_ROOM;
    bettong_hits *hits = NULL;
    bettong_hit hit;
    size_t count = 0;
    OK(bettong_get_blocks(ns, keys, BLOCKS, &limits, &hits, &reason));
    OK(bettong_hits_count(hits, &count));
    CHECK(count == BLOCKS);
    CHECK(leases(ns, "0") == !in_place);
    for (size_t i = 0; i < count; i++) {
        OK(bettong_hits_get(hits, i, &hit));
        CHECK(hit.bytes.len == BLOCK_BYTES && memcmp(hit.bytes.data, bytes[i], BLOCK_BYTES) == 0);
        CHECK(hit.tier == BETTONG_TIER_MEMORY && hit.expires_at_ms == 0 && hit.put_id.life == 1);
    }
    FAILS(bettong_hits_get(hits, count, &hit), BETTONG_STATUS_INVALID, "there are 3");
    CHECK(hit.bytes.data == NULL);
    OK(bettong_hits_release(hits));
    CHECK(leases(ns, "0"));
    FAILS(bettong_hits_release(hits), BETTONG_STATUS_INVALID, "closed before");
    FAILS(bettong_hits_get(hits, 0, &hit), BETTONG_STATUS_INVALID, "closed before");

    CHECK(bettong_get_blocks(ns, keys, BLOCKS + 1, NULL, &hits, &reason) == BETTONG_STATUS_MISS);
    CHECK(hits == NULL && reason == BETTONG_MISS_REASON_EVICTED);
    CHECK(strcmp(bettong_last_error()->text, "evicted") == 0);
    OK(bettong_get_leading_blocks(ns, keys, BLOCKS + 1, NULL, &hits, NULL));
    OK(bettong_hits_count(hits, &count));
    CHECK(count == BLOCKS);
    OK(bettong_hits_release(hits));
}

static void sidecars(const bettong_namespace *ns) {
    const bettong_span tail = {.data = bytes[1], .len = 100};
    bettong_miss_reason reason = BETTONG_MISS_REASON_NO_ROOM;
    bettong_sidecar_key key, other;
    bettong_hits *hits = NULL;
    bettong_stored stored;
    bettong_hit hit;
    memset(key.bytes, 7, sizeof key.bytes);
    memset(other.bytes, 8, sizeof other.bytes);
    OK(bettong_put_sidecar(ns, &key, &hashes[BLOCKS - 1], tail, BETTONG_LEVEL_OBJECT, &stored));
    CHECK(!stored.already);
    OK(bettong_get_sidecar(ns, &key, NULL, &hits, &reason));
    OK(bettong_hits_get(hits, 0, &hit));
    CHECK(hit.bytes.len == tail.len && memcmp(hit.bytes.data, tail.data, tail.len) == 0);
    OK(bettong_hits_release(hits));
    CHECK(bettong_get_sidecar(ns, &other, NULL, &hits, &reason) == BETTONG_STATUS_MISS);
    CHECK(hits == NULL && reason == BETTONG_MISS_REASON_ABSENT);
}

/* One of several threads that use one namespace at once. */
static void *read_often(void *ns) {
    for (int round = 0; round < 100; round++) {
        bettong_hits *hits = NULL;
        bettong_hit hit;
        OK(bettong_get_blocks(ns, keys, BLOCKS, NULL, &hits, NULL));
        OK(bettong_hits_get(hits, (size_t)(round % BLOCKS), &hit));
        CHECK(memcmp(hit.bytes.data, bytes[round % BLOCKS], BLOCK_BYTES) == 0);
        OK(bettong_hits_release(hits));
        CHECK(bettong_get_blocks(ns, keys, BLOCKS + 1, NULL, &hits, NULL) == BETTONG_STATUS_MISS);
        CHECK(bettong_last_error()->status == BETTONG_STATUS_MISS);
    }
    return NULL;
}

static void side_by_side(bettong_namespace *ns) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, read_often, ns) == 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static void round_trip(const char *url, int in_place) {
    bettong_client *client = NULL;
    bettong_namespace *ns = NULL, *other = NULL;
    bettong_hits *hits = NULL;
    bettong_hit hit;
    uint64_t microseconds = 0;
    char *json = NULL;
    opening(url);
    OK(bettong_open(url, BETTONG_ABI_VERSION, OPTIONS, &client));
    OK(bettong_ping(client, &microseconds));
    FAILS(bettong_namespace_open(client, "chat", "{\"model\":\"m\"}", &ns), BETTONG_STATUS_INVALID, "kv_dtype");
    OK(bettong_namespace_open(client, "chat", IDENTITY, &ns));
    FAILS(bettong_namespace_open(client, "chat",
                                 "{\"model\":\"m\",\"kv_dtype\":\"fp8\",\"layout\":\"NHD\",\"block_tokens\":16,\"parts\":[0]}",
                                 &other),
          BETTONG_STATUS_IDENTITY_MISMATCH, "kv_dtype");
    put(ns);
    look_up(ns);
    get(ns, in_place);
    sidecars(ns);
    side_by_side(ns);

    OK(bettong_stats(ns, &json));
    CHECK(json[0] == '{');
    OK(bettong_text_free(json));
    FAILS(bettong_text_free(json), BETTONG_STATUS_INVALID, "freed before");

    /* A client may go before its namespace, and both before what was got. */
    OK(bettong_get_blocks(ns, &keys[1], 1, NULL, &hits, NULL));
    OK(bettong_close(client));
    FAILS(bettong_close(client), BETTONG_STATUS_INVALID, "closed before");
    FAILS(bettong_close((bettong_client *)ns), BETTONG_STATUS_INVALID, "another kind");
    OK(bettong_namespace_close(ns));
    FAILS(bettong_namespace_close(ns), BETTONG_STATUS_INVALID, "closed before");
    OK(bettong_hits_get(hits, 0, &hit));
    CHECK(memcmp(hit.bytes.data, bytes[1], BLOCK_BYTES) == 0);
    OK(bettong_hits_release(hits));
    OK(bettong_hits_release(NULL));
    CHECK(bettong_last_error()->text[0] == '\0');
}

/* The daemon hangs up while this waits for a line. Whether the calls end well is not the matter: this program lives. */
static void call_who_has_left(const char *url) {
    bettong_client *client = NULL;
    bettong_namespace *ns = NULL;
    OK(bettong_open(url, BETTONG_ABI_VERSION, "{\"call_timeout_ms\": 100}", &client));
    OK(bettong_namespace_open(client, "chat", IDENTITY, &ns));
    puts("opened");
    fflush(stdout);
    CHECK(getchar() == '\n');
    bettong_ping(client, NULL);
    bettong_namespace_close(ns);
    OK(bettong_close(client));
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: round_trip URL tcp|shm|leaving\n");
        return 2;
    }
    fill();
    if (strcmp(argv[2], "leaving") == 0) {
        call_who_has_left(argv[1]);
    } else {
        round_trip(argv[1], strcmp(argv[2], "shm") == 0);
    }
    puts("all is well");
    return 0;
}
