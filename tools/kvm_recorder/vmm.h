/* The recorder's VMM: what its files share. See main.c for what it is. */
#ifndef VMM_H
#define VMM_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_VCPUS 8
#define CALL_REGS 18        /* x0-x17: all that SMCCC 1.2 lets a call carry (DEN0028) */

/* What plan.py places: the trapping instruction, and behind it code that saves x0-x17 and ends. */
#define CODE_IPA 0x10000
#define SAVED_IPA 0x13000
#define END_IPA (CODE_IPA + 4 + 4 * CALL_REGS / 2)
#define END_STORE 0x9002000 /* the address that store goes to, from a vCPU that was prepared */

/* KVM_REG_ARM_CORE ids: 0x6030000000100000 + offset in struct kvm_regs / 4 (uapi asm/kvm.h). */
#define CORE(field) (0x6030000000100000ULL | offsetof(struct kvm_regs, field) / 4)
#define SYSREG(op0, op1, crn, crm, op2)                                                     \
	(0x6030000000130000ULL | (op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
#define ESR_EL1 SYSREG(3, 0, 5, 2, 0)
#define FAR_EL1 SYSREG(3, 0, 6, 0, 0)

struct vcpu {
	int fd;
	struct kvm_run *run;
	int known;              /* x[] and pstate are what the vCPU holds */
	uint64_t x[CALL_REGS];
	uint64_t pstate;
};

extern int kvm_fd, vm_fd;
extern struct vcpu vcpus[MAX_VCPUS];

/* out.c: semihosting files and the text of a result */
int host_open(const char *name);
_Noreturn void host_exit(void);
void out(const char *format, ...) __attribute__((format(printf, 1, 2)));
void out_bytes(const char *key, const uint8_t *bytes, size_t count);
void out_flush(void);
void out_to(int handle);

/* ops.c: one ioctl per operation */
void operation(int words, char **word);
uint64_t number(const char *text);
uint8_t *memory(uint64_t ipa, uint64_t size);   /* NULL outside of guest memory */
int get_reg(int fd, uint64_t id, void *value);
int set_reg(int fd, uint64_t id, const void *value);

/* run.c: the two operations that run guest code */
void op_call(int words, char **word);
void op_run(int words, char **word);
void watchdog_setup(void);

#endif
