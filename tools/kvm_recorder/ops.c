/* One function per operation of the plan; most are one ioctl (linux Documentation/virt/kvm/api.rst).
 *
 * A file descriptor is named s (/dev/kvm), m (the VM) or the vCPU's number. There is one VM at
 * a time: creating the next one closes it. Bytes are hexadecimal, "-" is a NULL pointer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm.h"

int kvm_fd = -1, vm_fd = -1;
struct vcpu vcpus[MAX_VCPUS];
static size_t run_size;

#define SLOTS 4
static struct kvm_userspace_memory_region slots[SLOTS];

uint64_t number(const char *text)
{
	return strtoull(text, NULL, 16);
}

static int result(long value)
{
	out(" r=%ld", value < 0 ? -(long)errno : value);
	return value >= 0;
}

static struct vcpu *vcpu_of(const char *word)
{
	return &vcpus[number(word) % MAX_VCPUS];
}

static int fd_of(const char *word)
{
	if (*word == 's')
		return kvm_fd;
	return *word == 'm' ? vm_fd : vcpu_of(word)->fd;
}

static size_t unhex(const char *text, uint8_t *bytes, size_t room)
{
	size_t count = 0;

	for (; text[0] && text[1] && count < room; text += 2) {
		char pair[3] = {text[0], text[1], 0};

		bytes[count++] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return count;
}

int get_reg(int fd, uint64_t id, void *value)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value};

	return ioctl(fd, KVM_GET_ONE_REG, &reg);
}

int set_reg(int fd, uint64_t id, const void *value)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value};

	return ioctl(fd, KVM_SET_ONE_REG, &reg);
}

static void close_vm(void)
{
	for (int i = 0; i < MAX_VCPUS; i++) {
		if (vcpus[i].fd > 0) {
			munmap(vcpus[i].run, run_size);
			close(vcpus[i].fd);
		}
		vcpus[i] = (struct vcpu){.fd = -1};
	}
	if (vm_fd >= 0)
		close(vm_fd);
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].memory_size)
			munmap((void *)(uintptr_t)slots[i].userspace_addr, slots[i].memory_size);
	memset(slots, 0, sizeof(slots));
}

static void op_vm(int words, char **word)
{
	close_vm();
	run_size = (size_t)ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, words > 1 ? number(word[1]) : 0);
	result(vm_fd < 0 ? -1 : 0);
}

/* ram IPA SIZE [SLOT] */
static void op_ram(int words, char **word)
{
	uint64_t size = number(word[2]), slot = words > 3 ? number(word[3]) % SLOTS : 0;
	void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	slots[slot] = (struct kvm_userspace_memory_region){
		.slot = (uint32_t)slot,
		.guest_phys_addr = number(word[1]),
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};
	result(ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &slots[slot]));
}

static void op_vcpu(int words, char **word)
{
	struct vcpu *vcpu = vcpu_of(word[1]);
	int fd = ioctl(vm_fd, KVM_CREATE_VCPU, number(word[words > 2 ? 2 : 1]));

	if (!result(fd < 0 ? -1 : 0))
		return;
	vcpu->fd = fd;
	vcpu->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* A heading, for whoever reads the recording; on the console, for whoever waits or asks why. */
static void op_section(int words, char **word)
{
	printf("%s\n", word[1]);
	fflush(stdout);
	out(" r=0");
}

static void out_init(const struct kvm_vcpu_init *init)
{
	out(" target=%x features=%x", init->target, init->features[0]);
}

static void op_target(int words, char **word)
{
	struct kvm_vcpu_init init = {0};

	if (result(ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init)))
		out_init(&init);
}

static void op_init(int words, char **word)
{
	struct kvm_vcpu_init init = {.target = (uint32_t)number(word[2])};

	for (int i = 0; i < 7 && i + 3 < words; i++)
		init.features[i] = (uint32_t)number(word[i + 3]);
	vcpu_of(word[1])->known = 0;
	result(ioctl(vcpu_of(word[1])->fd, KVM_ARM_VCPU_INIT, &init));
}

static void op_cap(int words, char **word)
{
	result(ioctl(fd_of(word[1]), KVM_CHECK_EXTENSION, number(word[2])));
}

static void op_enable(int words, char **word)
{
	struct kvm_enable_cap cap = {.cap = (uint32_t)number(word[2])};

	cap.flags = words > 3 ? (uint32_t)number(word[3]) : 0;
	for (int i = 0; i < 4 && i + 4 < words; i++)
		cap.args[i] = number(word[i + 4]);
	result(ioctl(fd_of(word[1]), KVM_ENABLE_CAP, &cap));
}

#define LIST_ROOM 4096
static struct {
	uint64_t n;
	uint64_t reg[LIST_ROOM];
} list;

static void op_list(int words, char **word)
{
	list.n = number(word[2]);
	int ok = result(ioctl(fd_of(word[1]), KVM_GET_REG_LIST, &list));

	out(" n=%lx", (long)list.n);
	if (!ok)
		return;
	out(" ids=");
	for (uint64_t i = 0; i < list.n; i++)
		out("%s%lx", i ? "," : "", (long)list.reg[i]);
}

static size_t reg_bytes(uint64_t id)
{
	return (size_t)1 << (id >> 52 & 0xf);
}

static void op_get(int words, char **word)
{
	static uint8_t value[1 << 15];
	uint64_t id = number(word[2]);
	int null = words > 3 && word[3][0] == '-';

	if (result(get_reg(fd_of(word[1]), id, null ? NULL : value)))
		out_bytes("v", value, reg_bytes(id));
}

static void op_set(int words, char **word)
{
	uint8_t value[4096] = {0};
	int null = word[3][0] == '-';

	unhex(word[3], value, sizeof(value));
	vcpu_of(word[1])->known = 0;
	result(set_reg(fd_of(word[1]), number(word[2]), null ? NULL : value));
}

static void op_attr(int words, char **word)
{
	uint8_t bytes[64] = {0};
	size_t count = unhex(word[5], bytes, sizeof(bytes));
	struct kvm_device_attr attr = {
		.group = (uint32_t)number(word[3]),
		.attr = number(word[4]),
		.addr = word[5][0] == '-' ? 0 : (uintptr_t)bytes,
	};
	unsigned long request = KVM_HAS_DEVICE_ATTR;

	if (word[2][0] == 's')
		request = KVM_SET_DEVICE_ATTR;
	if (word[2][0] == 'g')
		request = KVM_GET_DEVICE_ATTR;
	if (result(ioctl(fd_of(word[1]), request, &attr)) && request == KVM_GET_DEVICE_ATTR)
		out_bytes("v", bytes, count);
}

static void op_mpget(int words, char **word)
{
	struct kvm_mp_state mp = {0};

	if (result(ioctl(fd_of(word[1]), KVM_GET_MP_STATE, &mp)))
		out(" v=%x", mp.mp_state);
}

static void op_mpset(int words, char **word)
{
	struct kvm_mp_state mp = {.mp_state = (uint32_t)number(word[2])};

	result(ioctl(fd_of(word[1]), KVM_SET_MP_STATE, &mp));
}

uint8_t *memory(uint64_t ipa, uint64_t size)
{
	for (int i = 0; i < SLOTS; i++) {
		uint64_t offset = ipa - slots[i].guest_phys_addr;

		if (offset < slots[i].memory_size && size <= slots[i].memory_size - offset)
			return (uint8_t *)(uintptr_t)slots[i].userspace_addr + offset;
	}
	return NULL;
}

static void op_write(int words, char **word)
{
	size_t count = (size_t)words - 2;
	uint32_t *at = (uint32_t *)(void *)memory(number(word[1]), 4 * count);

	if (!at) {
		out(" r=%d", -EFAULT);
		return;
	}
	for (size_t i = 0; i < count; i++)
		at[i] = (uint32_t)number(word[i + 2]);
	__builtin___clear_cache((char *)at, (char *)(at + count));
	out(" r=0");
}

static void op_read(int words, char **word)
{
	uint64_t size = number(word[2]);
	uint8_t *at = memory(number(word[1]), size);

	if (!at) {
		out(" r=%d", -EFAULT);
		return;
	}
	out(" r=0");
	out_bytes("v", at, size);
}

/* The IRQ line of a vCPU without an in-kernel GIC (KVM_ARM_IRQ_TYPE_CPU, api.rst 4.25). */
static void op_irq(int words, char **word)
{
	struct kvm_irq_level line = {
		.irq = (uint32_t)number(word[1]) << KVM_ARM_IRQ_VCPU_SHIFT,
		.level = (uint32_t)number(word[2]),
	};

	result(ioctl(vm_fd, KVM_IRQ_LINE, &line));
}

/* Every register of the list that has at most 16 bytes. */
static void op_dump(int words, char **word)
{
	int fd = fd_of(word[1]);
	uint8_t value[16];

	list.n = LIST_ROOM;
	if (!result(ioctl(fd, KVM_GET_REG_LIST, &list)))
		return;
	for (uint64_t i = 0; i < list.n; i++) {
		char key[20];
		size_t size = reg_bytes(list.reg[i]);

		if (size > sizeof(value) || get_reg(fd, list.reg[i], value))
			continue;
		snprintf(key, sizeof(key), "%lx", (long)list.reg[i]);
		out_bytes(key, value, size);
	}
}

static const struct {
	const char *name;
	int least;              /* words, its name among them */
	void (*handler)(int words, char **word);
} operations[] = {
	{"section", 2, op_section}, {"call", 7, op_call}, {"run", 3, op_run}, {"vm", 1, op_vm}, {"ram", 3, op_ram},
	{"vcpu", 2, op_vcpu}, {"target", 1, op_target}, {"init", 4, op_init},
	{"cap", 3, op_cap}, {"enable", 3, op_enable}, {"list", 3, op_list},
	{"get", 3, op_get}, {"set", 4, op_set}, {"attr", 6, op_attr},
	{"mpget", 2, op_mpget}, {"mpset", 3, op_mpset}, {"write", 3, op_write},
	{"read", 3, op_read}, {"irq", 3, op_irq}, {"dump", 2, op_dump},
};

void operation(int words, char **word)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++)
		if (!strcmp(word[0], operations[i].name) && words >= operations[i].least) {
			operations[i].handler(words, word);
			return;
		}
	out(" unknown=%s", word[0]);
}
