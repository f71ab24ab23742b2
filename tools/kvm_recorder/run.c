/* Running guest code: one trapping instruction, and everything it changed.
 *
 * The guest's code is the instruction at CODE_IPA, nine STPs that save x0-x17 (one ioctl each is
 * half the time of a recording), and a store to an address without memory, which ends the run as
 * KVM_EXIT_MMIO. So do the vectors, each with a store of its own, and the address says which was
 * taken. A run that ends otherwise has its registers read by KVM_GET_ONE_REG. A call that stops
 * the vCPU for good is ended by a timer.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "vmm.h"

#define VECTOR_STORES 0x100 /* low bits of the MMIO address: 0x100 + 4 * vector (plan.py) */
#define PSTATE_FLAGS 0x60000000u /* Z and C, to see that a call keeps them */
#define PSTATE_DAIF 0x3c0u
#define PSTATE_EL1H 5u
#define WAIT_US 10000
#define HANG_US 30000
#define UNWRITTEN 0xee

static struct kvm_run *running;

static void on_alarm(int signal)
{
	/* Closes the window before KVM_RUN: it then returns at once (api.rst, immediate_exit). */
	if (running)
		running->immediate_exit = 1;
}

void watchdog_setup(void)
{
	struct sigaction action = {.sa_handler = on_alarm};

	sigaction(SIGALRM, &action, NULL);
}

static void alarm_in(long us)
{
	struct itimerval timer = {.it_value = {.tv_usec = us}};

	setitimer(ITIMER_REAL, &timer, NULL);
}

/* What a call leaves in x1-x17 unless the plan says otherwise: recognisable, and no small number. */
static uint64_t poison(int reg)
{
	return 0xa5a5c3c300000000ULL + 0x01010101ULL * (uint64_t)(reg + 0x40);
}

static void set_x(struct vcpu *vcpu, int reg, uint64_t value)
{
	if (!vcpu->known || vcpu->x[reg] != value)
		set_reg(vcpu->fd, CORE(regs.regs) + 2 * (uint64_t)reg, &value);
	vcpu->x[reg] = value;
}

static void set_pstate(struct vcpu *vcpu, int el)
{
	uint64_t value = PSTATE_FLAGS | PSTATE_DAIF | (el ? PSTATE_EL1H : 0);

	if (!vcpu->known || vcpu->pstate != value)
		set_reg(vcpu->fd, CORE(regs.pstate), &value);
}

/* HVC, SMC and SVC #imm16 (Arm ARM C6.2: 0xD4000000 | imm16 << 5 | 2, 3, 1). */
static uint32_t instruction(char conduit, uint32_t imm)
{
	uint32_t low = conduit == 'h' ? 2 : conduit == 's' ? 3 : 1;

	return 0xd4000000u | imm << 5 | low;
}

static void place(uint32_t word)
{
	uint32_t *code = (uint32_t *)(void *)memory(CODE_IPA, 4);

	if (*code == word)
		return;
	*code = word;
	__builtin___clear_cache((char *)code, (char *)(code + 1));
}

static int kvm_run(struct vcpu *vcpu, long us)
{
	int status;

	vcpu->run->immediate_exit = 0;
	vcpu->run->exit_reason = 0;
	memset((uint8_t *)vcpu->run + offsetof(struct kvm_run, hw), UNWRITTEN, 256);
	running = vcpu->run;
	alarm_in(us);
	status = ioctl(vcpu->fd, KVM_RUN, 0);
	alarm_in(0);
	running = NULL;
	return status < 0 ? -errno : status;
}

static void out_exit(const struct kvm_run *run)
{
	out(" e=%x", run->exit_reason);
	if (run->exit_reason == KVM_EXIT_MMIO)
		out(" mmio=%lx", (long)run->mmio.phys_addr);
	if (run->exit_reason == KVM_EXIT_HYPERCALL) {
		out(" nr=%lx flags=%lx", (long)run->hypercall.nr, (long)run->hypercall.flags);
		out_bytes("args", (const uint8_t *)run->hypercall.args, sizeof(run->hypercall.args));
		out(" ret=%lx", (long)run->hypercall.ret);
	}
	if (run->exit_reason == KVM_EXIT_SYSTEM_EVENT) {
		out(" type=%x ndata=%x", run->system_event.type, run->system_event.ndata);
		out_bytes("data", (const uint8_t *)run->system_event.data,
			  sizeof(run->system_event.data));
	}
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		out(" suberror=%x", run->internal.suberror);
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		out(" reason=%lx", (long)run->fail_entry.hardware_entry_failure_reason);
}

static void out_reg(const char *key, int fd, uint64_t id)
{
	uint64_t value = 0;

	if (!get_reg(fd, id, &value))
		out(" %s=%lx", key, (long)value);
}

static void out_exception(const struct vcpu *vcpu)
{
	uint64_t low = vcpu->run->mmio.phys_addr & 0xfff;

	if (vcpu->run->exit_reason != KVM_EXIT_MMIO || low < VECTOR_STORES)
		return;
	out(" vector=%lx", (long)(low - VECTOR_STORES) / 4 * 0x80);
	out_reg("esr", vcpu->fd, ESR_EL1);
	out_reg("elr", vcpu->fd, CORE(elr_el1));
	out_reg("spsr", vcpu->fd, CORE(spsr));
	out_reg("far", vcpu->fd, FAR_EL1);
}

/* x0-x17 as the guest saved them in this run, when it came that far. */
static int saved_x(struct vcpu *vcpu, uint64_t pc)
{
	const struct kvm_run *run = vcpu->run;

	if (pc != END_IPA || run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr != END_STORE)
		return 0;
	memcpy(vcpu->x, memory(SAVED_IPA, sizeof(vcpu->x)), sizeof(vcpu->x));
	return 1;
}

static void out_x(struct vcpu *vcpu, int called)
{
	uint64_t pc = 0;
	int bad = get_reg(vcpu->fd, CORE(regs.pc), &pc);

	if (!called || !saved_x(vcpu, pc))
		for (int i = 0; i < CALL_REGS; i++)
			bad |= get_reg(vcpu->fd, CORE(regs.regs) + 2 * (uint64_t)i, &vcpu->x[i]);
	bad |= get_reg(vcpu->fd, CORE(regs.pstate), &vcpu->pstate);
	vcpu->known = !bad;
	if (bad)
		return;
	out(" ps=%lx x=", (long)vcpu->pstate);
	for (int i = 0; i < CALL_REGS; i++)
		out("%s%lx", i ? "," : "", (long)vcpu->x[i]);
	out(" pc=%lx", (long)pc);
}

static void out_mp(void)
{
	out(" mp=");
	for (int i = 0; i < MAX_VCPUS && vcpus[i].fd > 0; i++) {
		struct kvm_mp_state mp = {.mp_state = ~0u};

		ioctl(vcpus[i].fd, KVM_GET_MP_STATE, &mp);
		out("%s%x", i ? "," : "", mp.mp_state);
	}
}

/* An MMIO exit is finished by the next KVM_RUN, which moves the PC: do that now, go no further. */
static void finish_mmio(struct vcpu *vcpu)
{
	if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
		return;
	vcpu->run->immediate_exit = 1;
	ioctl(vcpu->fd, KVM_RUN, 0);
	vcpu->run->immediate_exit = 0;
}

/* `wait`: the plan expects the vCPU to wait as in WFI; a first interruption is noted and passed. */
static void run(struct vcpu *vcpu, int wait, int called)
{
	int status, waited = 0;

	status = kvm_run(vcpu, wait ? WAIT_US : HANG_US);
	if (wait && status == -EINTR) {
		waited = 1;
		status = kvm_run(vcpu, WAIT_US);
	}
	out(" r=%d", status);
	if (waited)
		out(" waited=1");
	out_exit(vcpu->run);
	out_x(vcpu, called);
	out_mp();
	if (status >= 0) {
		out_exception(vcpu);
		finish_mmio(vcpu);
	}
}

static int ready(const struct vcpu *vcpu)
{
	if (memory(CODE_IPA, 4) && vcpu->fd > 0)
		return 1;
	out(" r=%d", -EBADF);
	return 0;
}

/* call VCPU CONDUIT IMM EL WAIT X0 [X1 ...] */
void op_call(int words, char **word)
{
	struct vcpu *vcpu = &vcpus[number(word[1]) % MAX_VCPUS];
	uint64_t pc = CODE_IPA;

	if (!ready(vcpu))
		return;
	place(instruction(word[2][0], (uint32_t)number(word[3])));
	for (int i = 0; i < CALL_REGS; i++)
		set_x(vcpu, i, i + 6 < words ? number(word[i + 6]) : poison(i));
	set_pstate(vcpu, word[4][0] == '1');
	set_reg(vcpu->fd, CORE(regs.pc), &pc);
	run(vcpu, word[5][0] == '1', 1);
}

/* run VCPU WAIT */
void op_run(int words, char **word)
{
	struct vcpu *vcpu = &vcpus[number(word[1]) % MAX_VCPUS];

	if (ready(vcpu))
		run(vcpu, word[2][0] == '1', 0);
}
