/*
 * coremarkish: an integer benchmark of our own, with the mixture that compiled code has: pointer
 * chasing, multiply-add over small matrices, a branchy state machine, bit fiddling.
 *
 * The number of rounds is the 64-bit word at the symbol `loop_count`: patch it before the run. All
 * results go into one CRC-32, printed at the end, so a wrong CPU model shows as a wrong checksum.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"checksum e4a0a414"
#include "lib/guest.h"

volatile u64 loop_count = 2000;

/* ---- CRC-32 (IEEE 802.3, reflected), bit by bit ---- */

#define CRC32_POLYNOMIAL 0xEDB88320

static u32 crc32(u32 crc, u32 value) {
    crc ^= value;
    for (unsigned bit = 0; bit < 32; bit++)
        crc = crc >> 1 ^ (crc & 1 ? CRC32_POLYNOMIAL : 0);
    return crc;
}

/* Knuth's MMIX generator (TAOCP vol. 2, 3.3.4): the same numbers on every host. */
static u32 next_random(u64 *state) {
    *state = *state * 6364136223846793005 + 1442695040888963407;
    return (u32)(*state >> 33);
}

/* ---- a linked list: fill, reverse, walk ---- */

#define NODES 64

static struct node { struct node *next; u32 key; } nodes[NODES];

static struct node *fill_list(u64 *random) {
    struct node *head = 0;
    for (unsigned i = 0; i < NODES; i++) {
        struct node *node = &nodes[i * 29 % NODES];     /* 29 is odd: each node exactly once */
        node->key = next_random(random) & 0xFFFF;
        node->next = head;
        head = node;
    }
    return head;
}

static struct node *reverse(struct node *head) {
    struct node *done = 0;
    while (head) {
        struct node *next = head->next;
        head->next = done;
        done = head;
        head = next;
    }
    return done;
}

static u32 walk(const struct node *head) {
    u32 sum = 0, largest = 0;
    for (; head; head = head->next) {
        sum = sum * 31 + head->key;
        if (head->key > largest)
            largest = head->key;
    }
    return sum ^ largest;
}

static u32 list_round(u64 *random) {
    struct node *head = fill_list(random);
    u32 there = walk(head);
    return there ^ walk(reverse(head)) << 1;
}

/* ---- matrices ---- */

#define SIDE 12

static s32 left[SIDE][SIDE], right[SIDE][SIDE];

static u32 matrix_round(u64 *random) {
    u32 trace = 0;
    for (unsigned i = 0; i < SIDE * SIDE; i++) {
        left[i / SIDE][i % SIDE] = (s32)(next_random(random) & 0xFF) - 128;
        right[i % SIDE][i / SIDE] = (s32)(next_random(random) & 0xFF) - 128;
    }
    for (unsigned row = 0; row < SIDE; row++)
        for (unsigned column = 0; column < SIDE; column++) {
            s32 sum = 0;
            for (unsigned k = 0; k < SIDE; k++)
                sum += left[row][k] * right[k][column];
            trace = trace * 5 + (u32)sum;
        }
    return trace;
}

/* ---- a state machine: what kinds of numbers stand in a text? ---- */

enum state { START, SIGN, INTEGER, FRACTION, HEXADECIMAL, INVALID, STATES };

static const char text[] = "12 -7 3.25 0x1F +44 nonsense -.5 1e3 0xZZ 99 - 6.02 0 00 0x 8,1 .75 ";

static enum state step(enum state state, char c, char before) {
    bool digit = c >= '0' && c <= '9';
    switch (state) {
    case START:
        return digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? FRACTION : INVALID;
    case SIGN: return digit ? INTEGER : c == '.' ? FRACTION : INVALID;
    case INTEGER:
        if (c == 'x' && before == '0')
            return HEXADECIMAL;
        return digit ? INTEGER : c == '.' ? FRACTION : INVALID;
    case FRACTION: return digit ? FRACTION : INVALID;
    case HEXADECIMAL: return digit || (c >= 'A' && c <= 'F') ? HEXADECIMAL : INVALID;
    default: return INVALID;
    }
}

static u32 state_round(u32 rotation) {
    u32 endings[STATES] = {0}, hash = 0;
    enum state state = START;
    char before = ' ';
    for (unsigned i = 0; i < sizeof(text) - 1; i++) {
        char c = text[(i + rotation) % (sizeof(text) - 1)];
        if (c == ' ') {
            endings[state]++;
            state = START;
        } else {
            state = step(state, c, before);
        }
        before = c;
    }
    for (unsigned i = 0; i < STATES; i++)
        hash = hash * 17 + endings[i];
    return hash;
}

int main(const void *dtb) {
    u64 random = 1, rounds = loop_count;
    u32 crc = ~0u;
    (void)dtb;
    for (u64 i = 0; i < rounds; i++) {
        crc = crc32(crc, list_round(&random));
        crc = crc32(crc, matrix_round(&random));
        crc = crc32(crc, state_round((u32)i));
    }
    printf("coremarkish: %llu rounds, checksum %08x\n", rounds, ~crc);
    return 0;
}
