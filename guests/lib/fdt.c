/*
 * A device-tree reader of one pass and no allocation (Devicetree Specification v0.4, chapter 5):
 * it walks the structure block once and keeps the few properties a guest asks for.
 */
#include "guest.h"

#define FDT_MAGIC      0xD00DFEED
#define FDT_BEGIN_NODE 1
#define FDT_END_NODE   2
#define FDT_PROP       3
#define FDT_NOP        4
#define RAM_BASE       0x40000000

struct header { u32 magic, total_size, off_struct, off_strings; };
struct property { const char *name; const void *value; u32 length; };

/* The path to where the walk stands: path[0] is the root, path[1] "psci", path[2] "cpu@0" ... */
#define DEPTH 3
static const char *path[DEPTH];
static unsigned address_cells, size_cells;

struct machine machine;
u64 cpu_mpidr[MAX_CPUS];

static u32 be32(const void *at) { return __builtin_bswap32(*(const u32 *)at); }

static u64 cells(const u32 *at, unsigned count) {
    u64 value = 0;
    while (count--)
        value = value << 32 | be32(at++);
    return value;
}

/* "cpu@1" is a "cpu", "cpu-map" is not. */
static bool named(const char *node, const char *name) {
    size_t length = strlen(name);
    return !memcmp(node, name, length) && (node[length] == '\0' || node[length] == '@');
}

static bool lists(const struct property *property, const char *text) {
    const char *at = property->value, *end = at + property->length;
    for (; at < end; at += strlen(at) + 1)
        if (!strcmp(at, text))
            return true;
    return false;
}

static void root_property(const struct property *p) {
    if (!strcmp(p->name, "#address-cells"))
        address_cells = be32(p->value);
    if (!strcmp(p->name, "#size-cells"))
        size_cells = be32(p->value);
}

static void psci_property(const struct property *p) {
    if (!strcmp(p->name, "compatible")) {
        machine.psci = p->value;
        machine.psci_0_2 = lists(p, "arm,psci-0.2") || lists(p, "arm,psci-1.0");
    }
    if (!strcmp(p->name, "method"))
        machine.conduit = !strcmp(p->value, "smc") ? CONDUIT_SMC : CONDUIT_HVC;
}

static void memory_property(const struct property *p) {
    if (strcmp(p->name, "reg") || machine.ram_size)
        return;
    machine.ram_base = cells(p->value, address_cells);
    machine.ram_size = cells((const u32 *)p->value + address_cells, size_cells);
}

static void cpu_property(const struct property *p) {
    /* /cpus has no size cells, so the length of reg is the size of the address. */
    if (!strcmp(p->name, "reg") && machine.cpus < MAX_CPUS)
        cpu_mpidr[machine.cpus++] = cells(p->value, p->length / 4) & MPIDR_AFFINITY;
}

static void on_property(unsigned depth, const struct property *p) {
    if (depth == 1)
        root_property(p);
    else if (depth == 2 && named(path[1], "psci"))
        psci_property(p);
    else if (depth == 2 && named(path[1], "memory"))
        memory_property(p);
    else if (depth == 2 && named(path[1], "hypervisor") && !strcmp(p->name, "compatible"))
        machine.hypervisor = p->value;
    else if (depth == 3 && named(path[1], "cpus") && named(path[2], "cpu"))
        cpu_property(p);
}

static void walk(const u32 *token, const char *strings) {
    for (unsigned depth = 0;;) {
        u32 length;
        switch (be32(token++)) {
        case FDT_BEGIN_NODE:
            if (depth < DEPTH)
                path[depth] = (const char *)token;
            depth++;
            token += strlen((const char *)token) / 4 + 1;
            break;
        case FDT_END_NODE:
            depth--;
            break;
        case FDT_PROP:
            length = be32(token);
            on_property(depth, &(struct property){strings + be32(token + 1), token + 2, length});
            token += 2 + (length + 3) / 4;
            break;
        case FDT_NOP:
            break;
        default:
            return;
        }
    }
}

/*
 * QEMU starts a plain ELF image with x0 = 0 and puts the tree at the base of RAM if it fits below
 * the image. Its own tree is padded to 1 MiB and does not: repack it with dtc -p, and give -dtb.
 */
static const struct header *find(const void *dtb) {
    const void *places[] = {dtb, (const void *)RAM_BASE};
    for (unsigned i = 0; i < LENGTH(places); i++)
        if ((u64)places[i] >= RAM_BASE && (u64)places[i] % 8 == 0 && be32(places[i]) == FDT_MAGIC)
            return places[i];
    return 0;
}

const struct machine *machine_read(const void *dtb) {
    const struct header *header = find(dtb);
    if (header) {
        machine = (struct machine){.found = true};
        address_cells = 2, size_cells = 1;      /* the specification's defaults */
        memset(cpu_mpidr, 0xFF, sizeof(cpu_mpidr));
        walk((const u32 *)((const u8 *)header + be32(&header->off_struct)),
             (const char *)header + be32(&header->off_strings));
    }
    return &machine;
}
