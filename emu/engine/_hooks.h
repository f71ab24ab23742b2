/* The state of the hooks, and what the files that they are made of know of each other.
 *
 * _hooks.c       the type, put together (hooks.py)
 * _blocks.c      what begins, and whether it may (blocks.py)
 * _calls.c       HVC and SMC (calls.py)
 * _exceptions.c  what Unicorn reports, and entering EL1 (exceptions.py)
 * _registers.c   MRS and MSR (registers.py)
 * _timer_hook.c  the generic timer's registers (timer_hook.py)
 * _maintenance.c what a guest does once it has changed code (maintenance.py)
 * _counting.c    what Python asks of the counter (emu/cycles/counter.py)
 *
 * Numbers are those of unicorn 2.1.4, include/unicorn/unicorn.h and arm64.h, as in cpu.py.
 */
#ifndef EMU_HOOKS_H
#define EMU_HOOKS_H

#include "_native.h"

#include "_counter.h"

enum { PROT_READ = 1, PROT_EXEC = 4, MEM_WRITE = 17, REG_CP_REG = 290 };
enum { PSTATE_EL = 3 << 2 };
/* x0-x7 are read for a call; a reply writes at most x0-x17 (DEN0028). */
enum { ARGUMENTS = 8, REPLIES = 18 };
/* System registers: CRn, and CRm behind the timers' (arch.py, timers.py, registers.py). */
enum { CRN_TIMER = 14, CRM_EVENTS = 8 };
#define NEVER UINT64_MAX

/* uc_arm64_cp_reg: a system register by its encoding. */
typedef struct {
    uint32_t crn, crm, op0, op1, op2;
    uint64_t val;
} CpReg;

/* Unicorn's functions, in the order of engine.py:_NATIVE_FUNCTIONS. */
typedef struct {
    int (*emu_start)(void *, uint64_t, uint64_t, uint64_t, size_t);
    int (*emu_stop)(void *);
    int (*reg_read)(void *, int, void *);
    int (*reg_write)(void *, int, const void *);
    int (*reg_read_batch)(void *, int *, void **, int);
    int (*reg_write_batch)(void *, int *, void *const *, int);
    int (*context_save)(void *, void *);
    int (*hook_add)(void *, void *, int, void *, void *, uint64_t, uint64_t, ...);
    int (*vmem_translate)(void *, uint64_t, int, uint64_t *);
    int (*ctl)(void *, int, ...);
    int (*vmem_read)(void *, uint64_t, uint32_t, void *, size_t);
} Api;

/* uc_tb: a piece of translated code. */
typedef struct {
    uint64_t pc;
    uint16_t instructions, size;
} Translated;

/* emu/arm/timers.py:Timers. */
typedef struct {
    uint64_t ctl[2], cval[2], offset[2], known, ticks, cycles;
} Timers;

/* taken.py:ExceptionLog. */
typedef struct {
    uint64_t pc, esr, far, has_far, valid;
} Taken;

typedef struct {
    Taken last, earlier;
    uint64_t repeats;
} ExceptionLog;

/* Unicorn's numbers, in the order of exceptions.py:NAMED. */
typedef struct {
    int pc, pstate, sp, sp_el0, sp_el1, elr, esr, far, vbar;
} Numbers;

typedef struct {
    PyObject_HEAD
    Api api;
    void *uc, *context;
    const uint32_t *syndrome;      /* inside the context, at calibrated offsets */
    const uint64_t *fault_address;
    Counter c;
    uint64_t limit; /* no block starts at or after it without a look; sixteenths */
    uint64_t deadline, expiry, exact, exact_instructions, exception_cost;
    uint32_t interrupts;
    Numbers numbers;
    char asked, late, failed, stale, watched, has_pan, steps, looked;
    Timers *timers;
    ExceptionLog *log;
    uint64_t identification[64], identified; /* by CRm and op2; which of them are ours */
    struct {
        CpReg reg;
        uint64_t pc;
        int destination;
        char valid, is_write;
    } access; /* the last one Unicorn may not know */
    PyObject *hvc, *smc;                              /* what the handler gets for the conduit */
    PyObject *charge_of;                              /* bytes of a block -> address of a Charge */
    PyObject *hypercall, *exception, *system_register; /* borrowed while start() runs */
    PyThreadState *thread;
    PyObject *weakrefs;
    int registers[REPLIES];
    uint64_t values[REPLIES];
    void *places[REPLIES];
    uint64_t cleaned, cleaned_at; /* the cache line of the last IC IVAU; instructions before it */
    uintptr_t handles[7];
} Hooks;

static inline void stop(Hooks *h)
{
    h->asked = 1;
    h->api.emu_stop(h->uc);
}

/* The Python error stays set; start() returns it. */
static inline void fail(Hooks *h)
{
    h->failed = 1;
    stop(h);
}

static inline uint64_t get(Hooks *h, int number)
{
    uint64_t value = 0;
    h->api.reg_read(h->uc, number, &value);
    return value;
}

/* Not by reg_write, which keeps stores from telling the right PC afterwards (cpu.py:set). */
static inline void set(Hooks *h, int number, uint64_t value)
{
    void *place = &value;
    h->api.reg_write_batch(h->uc, &number, &place, 1);
}

static inline uint64_t get_system(Hooks *h, CpReg reg)
{
    h->api.reg_read(h->uc, REG_CP_REG, &reg);
    return reg.val;
}

/* What Unicorn calls. */
void on_block(void *uc, uint64_t address, uint32_t size, void *user);
void on_translated(void *uc, const Translated *now, const Translated *before, void *user);
void on_memory(void *uc, int kind, uint64_t address, int size, int64_t value, void *user);
void on_interrupt(void *uc, uint32_t intno, void *user);
uint32_t on_mrs(void *uc, int destination, const CpReg *reg, void *user);
uint32_t on_msr(void *uc, int source, const CpReg *reg, void *user);
uint32_t on_sys(void *uc, int source, const CpReg *reg, void *user);

/* What one file asks of another. */
void blocks_set_limit(Hooks *h);
void blocks_look_at_steps(Hooks *h);
void blocks_note_steps(Hooks *h, uint64_t value);
int calls_answer(Hooks *h, PyObject *conduit);
int registers_on_undefined(Hooks *h);
uint32_t timer_hook_on_access(Hooks *h, const CpReg *reg, int is_write, int destination);

/* A method that is in another file than the type: the function, and its docstring beside it. */
#define METHOD(name)                         \
    extern const char hooks_##name##_doc[];  \
    PyObject *hooks_##name(PyObject *self, PyObject *arguments)

METHOD(use_timers); /* _timer_hook.c */
METHOD(identify);   /* _registers.c */
METHOD(take);       /* _exceptions.c */
/* _counting.c */
METHOD(account);
METHOD(forget_places);
METHOD(refund);
METHOD(take_back_last);
METHOD(last_cost);
METHOD(trap);
METHOD(predict);
METHOD(follow);
METHOD(run_vcpu);
METHOD(reset_vcpu);
METHOD(counter);
METHOD(ends);
METHOD(lines);
METHOD(frames);

#endif
