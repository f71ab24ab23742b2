/* Unicorn's hooks in C, for emu/engine/engine.py: what emu/engine/hooks.py:PythonHooks, el1.py, timers.py and
 * taken.py say in Python.
 *
 * It counts, compares deadlines, keeps the generic timer's registers, enters the exceptions that
 * nobody wants to hear of, notices an interrupt that is no longer masked, and turns an HVC, an SMC
 * or an access to a system register that is not modelled here into one call of a Python function.
 */
#include "_native.h"

#include "_counter.h"

enum { INTR_UNDEFINED = 1, INTR_SVC, INTR_PREFETCH_ABORT, INTR_DATA_ABORT };
enum { INTR_BRK = 7, INTR_HVC = 11, INTR_SMC = 13 };
enum { ARGUMENTS = 8, REPLIES = 18 };
enum { HOOK_INTR = 1, HOOK_INSN = 2, HOOK_BLOCK = 8, HOOK_EDGE = 1 << 15 };
enum { INS_MRS = 1, INS_MSR, INS_SYS };
enum { HOOK_MEM_READ = 1 << 10, HOOK_MEM_WRITE = 1 << 11, MEM_WRITE = 17 };
enum { PROT_READ = 1, PROT_EXEC = 4, CTL_REMOVE_CODE = 1 << 30 | 2 << 26 | 9 };
enum { REG_CP_REG = 290, STORM_LIMIT = 1000, FUNCTIONS = 11 };
enum { PSTATE_SPSEL = 1, PSTATE_EL = 3 << 2, PSTATE_AFTER_EXCEPTION = 0x3c5 };
enum { PSTATE_PAN = 1 << 22, SCTLR_SPAN = 1 << 23 };
enum { PSTATE_D = 1 << 9, MDSCR_SS = 1 << 0, MDSCR_KDE = 1 << 13 };
enum { LINE = 64, PAGE = 4096, LOOP = 4 };
enum { VECTOR = 0x80, VECTOR_CURRENT_SPX = 0x200, VECTOR_LOWER = 0x400, CLASSES = 64 };
/* System registers: CRn, CRm and op2 (arch.py, timers.py). */
enum { CRN_IDENTIFICATION = 0, CRN_PRIORITY = 4, CRN_MONITOR = 9, CRN_GIC = 12, CRN_TIMER = 14 };
enum { CRM_COUNTER = 0, CRM_PHYSICAL = 2, CRM_VIRTUAL = 3, CRM_PRIORITY = 6, CRM_EVENTS = 8 };
enum { KNOWN_COUNTERS = 4, CYCLE = 31 };
enum { OP2_TVAL = 0, OP2_CTL = 1, OP2_CVAL = 2, CTL_ENABLE = 1, CTL_IMASK = 2, CTL_ISTATUS = 4 };
#define NEVER UINT64_MAX

__extension__ typedef unsigned __int128 Wide; /* cycles times a frequency */

typedef struct {
    uint32_t crn, crm, op0, op1, op2;
    uint64_t val;
} CpReg;

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

/* timers.py:Timers. */
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

/* Unicorn's numbers, in the order of hooks.py:NAMED. */
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

static void stop(Hooks *h)
{
    h->asked = 1;
    h->api.emu_stop(h->uc);
}

static uint64_t get(Hooks *h, int number)
{
    uint64_t value = 0;
    h->api.reg_read(h->uc, number, &value);
    return value;
}

static void set(Hooks *h, int number, uint64_t value)
{
    h->api.reg_write(h->uc, number, &value);
}

static uint64_t get_system(Hooks *h, CpReg reg)
{
    h->api.reg_read(h->uc, REG_CP_REG, &reg);
    return reg.val;
}

/* -- time ------------------------------------------------------------------------------------- */

/* Whatever may keep a block from starting has changed. */
static void set_limit(Hooks *h)
{
    uint64_t due = h->deadline < h->expiry ? h->deadline : h->expiry;
    h->limit = due < NEVER / SIXTEENTHS ? due * SIXTEENTHS : NEVER;
    if (h->stale || h->interrupts || h->steps)
        h->limit = 0;
}

static const CpReg mdscr = {.crm = 2, .op0 = 2, .op2 = 2};

static char steps(uint64_t value)
{
    return (value & (MDSCR_SS | MDSCR_KDE)) == (MDSCR_SS | MDSCR_KDE);
}

/* Have Unicorn see MDSCR_EL1.SS: hooks.py:PythonHooks._look_at_steps has the reasons. */
static void look_at_steps(Hooks *h)
{
    CpReg reg = mdscr;
    reg.val = get_system(h, mdscr);
    h->steps = h->looked = steps(reg.val);
    set_limit(h);
    if (h->steps)
        h->api.reg_write(h->uc, REG_CP_REG, &reg);
}

static void fail(Hooks *h);

/* A block met for the first time at this place: what it costs, by its bytes. */
static Site *look_at_block(Hooks *h, uintptr_t place, uint64_t address, uint32_t size)
{
    PyObject *code, *found;
    const Charge *charge = NULL;
    Site *site = NULL;
    uint64_t physical = address;
    if (h->c.fresh_count > 1 || (h->c.fresh_count && h->c.fresh != address))
        counter_forget(&h->c);
    h->c.fresh_count = 0;
    PyEval_RestoreThread(h->thread);
    code = PyBytes_FromStringAndSize(NULL, size);
    if (code && !h->api.vmem_read(h->uc, address, PROT_EXEC, PyBytes_AS_STRING(code), size) &&
        (found = PyObject_CallOneArg(h->charge_of, code))) {
        charge = (const Charge *)PyLong_AsVoidPtr(found);
        Py_DECREF(found);
    }
    Py_XDECREF(code);
    if (h->c.caches.mine && h->api.vmem_translate(h->uc, address, PROT_EXEC, &physical))
        physical = address;
    if (charge && !(site = counter_keep(&h->c, place, address, physical, charge)))
        PyErr_NoMemory();
    if (PyErr_Occurred())
        fail(h);
    h->thread = PyEval_SaveThread();
    return site;
}

/* Where in Unicorn's translated code a hook was called from. */
#define CALLER() ((uintptr_t)__builtin_return_address(0))

/* Whether the run has to stop before this block, as it does in the end where `limit` is reached. */
static int must_stop(Hooks *h)
{
    uint64_t cycles = counter_cycles(&h->c);
    if (cycles >= h->deadline || cycles >= h->expiry || h->stale ||
        (h->interrupts && h->interrupts & ~get(h, h->numbers.pstate)) ||
        (h->steps && !h->looked && !(get(h, h->numbers.pstate) & PSTATE_D)))
        return 1;
    h->looked = 0;
    return 0;
}

static void on_block(void *uc, uint64_t address, uint32_t size, void *user)
{
    Hooks *h = user;
    Counter *c = &h->c;
    Site *site = NULL;
    (void)uc;
    /* Before it is charged: the block runs after a restart. */
    if (UNLIKELY(c->time >= h->limit) && must_stop(h)) {
        h->late = 1;
        h->api.emu_stop(h->uc);
        return;
    }
    if (c->on && !(site = counter_find(c, CALLER(), address, size)))
        site = look_at_block(h, CALLER(), address, size);
    counter_begin(c, address, size, site);
}

/* A load or a store, at a physical address. */
static void on_memory(void *uc, int kind, uint64_t address, int size, int64_t value, void *user)
{
    Counter *c = &((Hooks *)user)->c;
    (void)uc;
    (void)size;
    (void)value;
    if (c->caches.mine)
        counter_access(c, address, kind == MEM_WRITE);
}

/* Unicorn translates: the place it writes may have stood for another block. */
static void on_translated(void *uc, const Translated *now, const Translated *before, void *user)
{
    Counter *c = &((Hooks *)user)->c;
    (void)uc;
    (void)before;
    c->fresh = now->pc;
    c->fresh_count++;
}

static Wide ticks_at(const Timers *t, uint64_t cycles)
{
    return (Wide)cycles * t->ticks / t->cycles;
}

static uint64_t count(Hooks *h, int timer, uint64_t cycles)
{
    return (uint64_t)ticks_at(h->timers, cycles) - h->timers->offset[timer];
}

static int is_on(Hooks *h, int timer)
{
    return (h->timers->ctl[timer] & (CTL_ENABLE | CTL_IMASK)) == CTL_ENABLE;
}

static uint64_t expiry(Hooks *h, int timer, uint64_t cycles)
{
    const Timers *t = h->timers;
    uint64_t now = count(h, timer, cycles), cval = t->cval[timer];
    Wide due;
    if (!is_on(h, timer) || t->known >> timer & 1)
        return NEVER;
    due = (ticks_at(t, cycles) + (cval > now ? cval - now : 0)) * t->cycles;
    due = (due + t->ticks - 1) / t->ticks;
    return due < NEVER ? (uint64_t)due : NEVER;
}

static void rearm(Hooks *h, uint64_t cycles)
{
    uint64_t physical, virtual;
    physical = h->timers ? expiry(h, 0, cycles) : NEVER;
    virtual = h->timers ? expiry(h, 1, cycles) : NEVER;
    h->expiry = physical < virtual ? physical : virtual;
    set_limit(h);
}

static int read_timer(Hooks *h, const CpReg *reg, int timer, uint64_t cycles, uint64_t *value)
{
    Timers *t = h->timers;
    uint64_t now = count(h, timer, cycles);
    if (reg->crm == CRM_COUNTER)
        *value = now;
    else if (reg->op2 == OP2_TVAL)
        *value = (t->cval[timer] - now) & UINT32_MAX;
    else if (reg->op2 == OP2_CVAL)
        *value = t->cval[timer];
    else if (reg->op2 == OP2_CTL)
        *value = t->ctl[timer] |
                 (t->ctl[timer] & CTL_ENABLE && now >= t->cval[timer] ? CTL_ISTATUS : 0);
    else
        return 0;
    return 1;
}

static int write_timer(Hooks *h, const CpReg *reg, int timer, uint64_t cycles)
{
    Timers *t = h->timers;
    uint64_t now = count(h, timer, cycles);
    if (reg->crm == CRM_COUNTER || reg->op2 > OP2_CVAL)
        return 0;
    if (reg->op2 == OP2_CTL)
        t->ctl[timer] = reg->val & (CTL_ENABLE | CTL_IMASK);
    else
        t->cval[timer] = reg->op2 == OP2_CVAL ? reg->val
                                              : now + (uint64_t)(int64_t)(int32_t)reg->val;
    if (!is_on(h, timer) || now < t->cval[timer])
        t->known &= ~((uint64_t)1 << timer);
    rearm(h, cycles);
    return 1;
}

/* Which timer a register belongs to: 0 physical, 1 virtual, -1 neither. */
static int timer_of(const CpReg *reg)
{
    if (reg->op0 != 3 || reg->op1 != 3)
        return -1;
    if (reg->crm == CRM_COUNTER && (reg->op2 == 1 || reg->op2 == 2))
        return (int)reg->op2 - 1;
    return reg->crm == CRM_PHYSICAL || reg->crm == CRM_VIRTUAL ? (int)reg->crm - CRM_PHYSICAL : -1;
}

/* Whether CNTKCTL_EL1 lets EL0 use it: otherwise Unicorn gives the trap. */
static int may_use(Hooks *h, const CpReg *reg, int timer)
{
    uint64_t enabled;
    if (get(h, h->numbers.pstate) & PSTATE_EL)
        return 1;
    enabled = get_system(h, (CpReg){.crn = 14, .crm = 1, .op0 = 3});
    return reg->crm == CRM_COUNTER ? enabled >> timer & 1 : enabled >> (9 - timer) & 1;
}

/* -- Python ----------------------------------------------------------------------------------- */

/* Write the reply's registers, x0 upward. */
static int write_reply(Hooks *h, PyObject *reply)
{
    Py_ssize_t length = PyTuple_Check(reply) ? PyTuple_GET_SIZE(reply) : -1;
    if (length < 0 || length > REPLIES) {
        PyErr_SetString(PyExc_TypeError, "a reply is None or a tuple of at most 18 integers");
        return -1;
    }
    for (Py_ssize_t n = 0; n < length; n++) {
        h->values[n] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(reply, n));
        if (h->values[n] == (uint64_t)-1 && PyErr_Occurred())
            return -1;
    }
    if (length)
        h->api.reg_write_batch(h->uc, h->registers, (void *const *)h->places, (int)length);
    return 0;
}

static PyObject *read_arguments(Hooks *h)
{
    PyObject *x = PyTuple_New(ARGUMENTS);
    if (!x)
        return NULL;
    h->api.reg_read_batch(h->uc, h->registers, h->places, ARGUMENTS);
    for (int n = 0; n < ARGUMENTS; n++) {
        PyObject *value = PyLong_FromUnsignedLongLong(h->values[n]);
        if (!value) {
            Py_DECREF(x);
            return NULL;
        }
        PyTuple_SET_ITEM(x, n, value);
    }
    return x;
}

static int on_hypercall(Hooks *h, uint32_t intno)
{
    PyObject *arguments[3] = {intno == INTR_HVC ? h->hvc : h->smc, NULL, NULL}, *reply = NULL;
    int result = -1;
    h->api.context_save(h->uc, h->context);
    arguments[1] = PyLong_FromLong(*h->syndrome & 0xFFFF);
    arguments[2] = read_arguments(h);
    if (arguments[1] && arguments[2])
        reply = PyObject_Vectorcall(h->hypercall, arguments, 3, NULL);
    if (reply)
        result = reply == Py_None ? (stop(h), 0) : write_reply(h, reply);
    Py_XDECREF(reply);
    Py_XDECREF(arguments[1]);
    Py_XDECREF(arguments[2]);
    return result;
}

static int on_exception(Hooks *h, uint32_t intno)
{
    PyObject *done = PyObject_CallFunction(h->exception, "I", intno);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Ask Python for a system register: 1 answered, 0 there is none, -1 an error. */
static int ask(Hooks *h, const CpReg *reg, int is_write, int destination)
{
    PyObject *answer = PyObject_CallFunction(
        h->system_register, "(IIIII)OK", reg->op0, reg->op1, reg->crn, reg->crm, reg->op2,
        is_write ? Py_True : Py_False, is_write ? (unsigned long long)reg->val : 0ULL);
    uint64_t value;
    if (!answer)
        return -1;
    if (answer == Py_None) {
        Py_DECREF(answer);
        return 0;
    }
    value = PyLong_AsUnsignedLongLong(answer);
    Py_DECREF(answer);
    if (value == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    if (!is_write)
        set(h, destination, value);
    return 1;
}

static void fail(Hooks *h)
{
    h->failed = 1; /* the Python error stays set; start() returns it */
    stop(h);
}

/* -- system registers ------------------------------------------------------------------------- */

/* The performance monitor's registers, which Unicorn has and answers wrongly. */
static int is_monitor(const CpReg *reg)
{
    return reg->crn == CRN_MONITOR || (reg->crn == CRN_TIMER && reg->crm >= CRM_EVENTS);
}

/* PMEVCNTR<n> and PMEVTYPER<n> that Unicorn has not got. */
static int is_unknown_counter(const CpReg *reg)
{
    uint32_t number = (reg->crm & 3) << 3 | reg->op2;
    return reg->crn == CRN_TIMER && reg->crm >= CRM_EVENTS && number >= KNOWN_COUNTERS &&
           number < CYCLE;
}

/* The interrupt controller's CPU interface, which Unicorn has not got: ICC_*. */
static int is_gic(const CpReg *reg)
{
    return (reg->crn == CRN_GIC && reg->crm >= 8) ||
           (reg->crn == CRN_PRIORITY && reg->crm == CRM_PRIORITY);
}

/* When the access at pc happens, for the handler that is asked. */
static void note_moment(Hooks *h, uint64_t pc)
{
    h->exact = counter_cycles_at(&h->c, pc);
    h->exact_instructions = counter_instructions_at(&h->c, pc);
}

static uint32_t ask_in_place(Hooks *h, const CpReg *reg, int is_write, int destination)
{
    int result;
    note_moment(h, get(h, h->numbers.pc));
    PyEval_RestoreThread(h->thread);
    result = ask(h, reg, is_write, destination);
    if (result < 0)
        fail(h);
    h->thread = PyEval_SaveThread();
    return result != 0;
}

static uint32_t on_timer(Hooks *h, const CpReg *reg, int is_write, int destination)
{
    int timer = timer_of(reg);
    uint64_t cycles, value;
    if (timer < 0 || !h->timers || !may_use(h, reg, timer))
        return 0;
    cycles = counter_cycles_at(&h->c, get(h, h->numbers.pc));
    if (is_write)
        return (uint32_t)write_timer(h, reg, timer, cycles);
    if (!read_timer(h, reg, timer, cycles, &value))
        return 0;
    set(h, destination, value);
    return 1;
}

static uint32_t on_identification(Hooks *h, const CpReg *reg, int destination)
{
    uint32_t index = reg->crm << 3 | reg->op2;
    if (reg->op0 != 3 || reg->op1 || index >= 64 || !(h->identified >> index & 1) ||
        !(get(h, h->numbers.pstate) & PSTATE_EL))
        return 0;
    set(h, destination, h->identification[index]);
    return 1;
}

/* One MRS or MSR; true when it is done. */
static int same_register(const CpReg *a, const CpReg *b)
{
    return a->op0 == b->op0 && a->op1 == b->op1 && a->crn == b->crn && a->crm == b->crm &&
           a->op2 == b->op2;
}

static uint32_t on_access(Hooks *h, const CpReg *reg, int is_write, int destination)
{
    h->access.valid = 0;
    if (h->failed)
        return 0;
    if (reg->crn == CRN_TIMER && reg->crm < CRM_EVENTS)
        return on_timer(h, reg, is_write, destination);
    if (reg->crn == CRN_IDENTIFICATION && !is_write)
        return on_identification(h, reg, destination);
    if (is_write && same_register(reg, &mdscr)) {
        h->steps = steps(reg->val);
        set_limit(h);
    }
    if (reg->op0 != 3 || (!is_monitor(reg) && !is_gic(reg)))
        return 0;
    if (is_monitor(reg) && !is_unknown_counter(reg))
        return ask_in_place(h, reg, is_write, destination);
    /* Unicorn would skip what it does not know for ever: it is answered when it reports it. */
    h->access.reg = *reg;
    h->access.pc = get(h, h->numbers.pc);
    h->access.destination = destination;
    h->access.is_write = (char)is_write;
    h->access.valid = 1;
    return 0;
}

static uint32_t on_mrs(void *uc, int destination, const CpReg *reg, void *user)
{
    (void)uc;
    return on_access(user, reg, 0, destination);
}

static uint32_t on_msr(void *uc, int source, const CpReg *reg, void *user)
{
    (void)uc;
    return on_access(user, reg, 1, source);
}

/* -- caches ----------------------------------------------------------------------------------- */

static void without_mmu(Hooks *h, uint64_t address)
{
    CpReg sctlr = {.crn = 1, .op0 = 3};
    uint64_t was = get_system(h, sctlr);
    sctlr.val = was & ~(uint64_t)1;
    h->api.reg_write(h->uc, REG_CP_REG, &sctlr);
    h->api.ctl(h->uc, CTL_REMOVE_CODE, address, address + PAGE);
    sctlr.val = was;
    h->api.reg_write(h->uc, REG_CP_REG, &sctlr);
}

/* IC IVAU: hooks.py:PythonHooks._forget_line has the reasons. */
static void forget_line(Hooks *h, uint64_t address)
{
    uint64_t line = address & ~(uint64_t)(LINE - 1), physical;
    uint64_t now = counter_instructions_at(&h->c, get(h, h->numbers.pc));
    int goes_on = line == h->cleaned + LINE && line & (PAGE - 1) && now - h->cleaned_at <= LOOP;
    h->cleaned = line;
    h->cleaned_at = now;
    if (goes_on)
        return;
    if (!h->api.vmem_translate(h->uc, line, PROT_EXEC, &physical))
        h->api.ctl(h->uc, CTL_REMOVE_CODE, line & ~(uint64_t)(PAGE - 1),
                   (line & ~(uint64_t)(PAGE - 1)) + PAGE);
    else if (!h->api.vmem_translate(h->uc, line, PROT_READ, &physical))
        without_mmu(h, physical & ~(uint64_t)(PAGE - 1));
}

static uint32_t on_sys(void *uc, int source, const CpReg *reg, void *user)
{
    Hooks *h = user;
    (void)uc;
    (void)source;
    if (reg->crn == 7 && reg->crm == 5 && reg->op1 == 3 && reg->op2 == 1)
        forget_line(h, reg->val); /* IC IVAU */
    else if (reg->crn == 7 && (reg->crm == 1 || reg->crm == 5) && !reg->op1 && !reg->op2) {
        h->stale = 1; /* IC IALLUIS, IC IALLU */
        set_limit(h);
    }
    else
        h->cleaned = NEVER;
    return 0;
}

/* An instruction that is UNDEFINED to Unicorn: 1 if it was an access that has been answered. */
static int on_undefined(Hooks *h)
{
    uint64_t pc = get(h, h->numbers.pc);
    int result;
    if (!h->access.valid || h->access.pc != pc ||
        !(is_monitor(&h->access.reg) || get(h, h->numbers.pstate) & PSTATE_EL))
        return 0;
    h->access.valid = 0;
    note_moment(h, pc);
    result = ask(h, &h->access.reg, h->access.is_write, h->access.destination);
    if (result > 0) {
        set(h, h->numbers.pc, pc + WORD);
        counter_refund(&h->c, pc + WORD);
    }
    return result;
}

/* -- exceptions ------------------------------------------------------------------------------- */

/* Enter EL1; el1.py:take_exception has the reasons. `syndrome` is {ESR, FAR}, as many as given. */
static uint64_t take(Hooks *h, uint64_t kind, int given, const uint64_t *syndrome, uint64_t back)
{
    const Numbers *n = &h->numbers;
    static const CpReg spsr = {.crn = 4, .crm = 0, .op0 = 3, .op1 = 0, .op2 = 0};
    static const CpReg sctlr = {.crn = 1, .crm = 0, .op0 = 3, .op1 = 0, .op2 = 0};
    uint64_t pstate, sp, vbar, stack, after = PSTATE_AFTER_EXCEPTION, vector;
    CpReg saved = spsr;
    int numbers[8], reads[4] = {n->pstate, n->sp, n->vbar, n->sp_el1}, length = 0, on_el1;
    void *results[4] = {&pstate, &sp, &vbar, &stack};
    const void *values[8];
    pstate = 0;
    h->api.reg_read_batch(h->uc, reads, results, 4);
    pstate &= UINT32_MAX;
    on_el1 = (pstate & PSTATE_EL) && (pstate & PSTATE_SPSEL);
    vector = vbar + kind +
             (pstate & PSTATE_EL ? (pstate & PSTATE_SPSEL ? VECTOR_CURRENT_SPX : 0) : VECTOR_LOWER);
    if (on_el1)
        stack = sp;
    if (h->has_pan && (pstate & PSTATE_PAN || !(get_system(h, sctlr) & SCTLR_SPAN)))
        after |= PSTATE_PAN;
#define WRITE(number, place) (numbers[length] = (number), values[length++] = (place))
    WRITE(on_el1 ? n->sp_el1 : n->sp_el0, &sp);
    WRITE(n->elr, &back);
    if (given > 0)
        WRITE(n->esr, &syndrome[0]);
    if (given > 1)
        WRITE(n->far, &syndrome[1]);
    WRITE(n->pstate, &after);
    WRITE(n->sp, &stack);
#undef WRITE
    h->api.reg_write_batch(h->uc, numbers, (void *const *)values, length);
    saved.val = pstate;
    h->api.reg_write(h->uc, REG_CP_REG, &saved);
    set(h, n->pc, vector);
    counter_exception(&h->c, kind ? CLASSES + kind / VECTOR - 1 : syndrome[0] >> 26, back,
                      h->exception_cost);
    return vector;
}

static int same(const Taken *a, const Taken *b)
{
    return a->valid == b->valid && a->pc == b->pc && a->esr == b->esr && a->far == b->far &&
           a->has_far == b->has_far;
}

/* Take what Unicorn reports without asking Python; 0 when Python has to. */
static int take_alone(Hooks *h, uint32_t intno)
{
    int svc = intno == INTR_SVC, abort = intno == INTR_PREFETCH_ABORT || intno == INTR_DATA_ABORT;
    uint64_t pc, syndrome[2];
    ExceptionLog *log = h->log;
    Taken taken = {0};
    int repeated;
    if (h->watched || !(svc || abort || intno == INTR_BRK))
        return 0;
    pc = get(h, h->numbers.pc);
    h->api.context_save(h->uc, h->context);
    syndrome[0] = *h->syndrome;
    syndrome[1] = *h->fault_address;
    taken = (Taken){pc - (svc ? WORD : 0), syndrome[0], abort ? syndrome[1] : 0, (uint64_t)abort, 1};
    repeated = same(&taken, &log->last) && !svc && get(h, h->numbers.elr) == pc;
    if (repeated && log->repeats + 1 >= STORM_LIMIT)
        return 0;
    if (!same(&taken, &log->last)) {
        log->earlier = log->last;
        log->last = taken;
    }
    log->repeats = repeated ? log->repeats + 1 : 0;
    if (intno == INTR_DATA_ABORT || intno == INTR_BRK)
        counter_refund(&h->c, pc);
    take(h, 0, abort ? 2 : 1, syndrome, pc);
    return 1;
}

static void on_interrupt(void *uc, uint32_t intno, void *user)
{
    Hooks *h = user;
    int result;
    (void)uc;
    if (h->failed) /* Unicorn is still unwinding after an error: nothing more is answered */
        return;
    if (take_alone(h, intno))
        return;
    PyEval_RestoreThread(h->thread);
    result = intno == INTR_UNDEFINED ? on_undefined(h) : 0;
    if (!result)
        result = intno == INTR_HVC || intno == INTR_SMC ? on_hypercall(h, intno)
                                                        : on_exception(h, intno);
    if (result < 0)
        fail(h);
    h->thread = PyEval_SaveThread();
}

/* -- the Python object ------------------------------------------------------------------------ */

PyDoc_STRVAR(start_doc, "start(pc, until, hypercall, exception, system_register) -> uc_err\n\n"
                        "Run guest code until Unicorn stops, with the interpreter lock released.");

static PyObject *hooks_start(PyObject *self, PyObject *args)
{
    Hooks *h = (Hooks *)self;
    unsigned long long pc, until;
    int error;
    if (!PyArg_ParseTuple(args, "KKOOO", &pc, &until, &h->hypercall, &h->exception,
                          &h->system_register))
        return NULL;
    h->asked = h->late = h->failed = h->access.valid = 0;
    if (h->c.on && h->c.fresh_count) /* translated in the last run, and never begun */
        counter_forget(&h->c);
    look_at_steps(h);
    h->thread = PyEval_SaveThread();
    error = h->api.emu_start(h->uc, pc, until, 0, 0);
    PyEval_RestoreThread(h->thread);
    h->hypercall = h->exception = h->system_register = NULL;
    return h->failed ? NULL : PyLong_FromLong(error);
}

PyDoc_STRVAR(stop_doc, "stop()\n\nAsk the running start() to return after this hook.");

static PyObject *hooks_stop(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    stop((Hooks *)self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(refund_doc, "refund(pc)\n\n"
                         "Take back the part of the current block that starts at pc.");

static PyObject *hooks_refund(PyObject *self, PyObject *argument)
{
    uint64_t pc = PyLong_AsUnsignedLongLong(argument);
    if (pc == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    counter_refund(&((Hooks *)self)->c, pc);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(account_doc, "account(charges)\n\n"
                          "From now on a block costs what these block_costs.py:Charges say.");

static PyObject *hooks_account(PyObject *self, PyObject *charges)
{
    Hooks *h = (Hooks *)self;
    PyObject *charge_of = PyObject_GetAttrString(charges, "charge_of");
    if (!charge_of)
        return NULL;
    Py_XSETREF(h->charge_of, charge_of);
    if (!h->c.on && counter_start(&h->c))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(forget_places_doc, "forget_places()\n\nAll translated code is gone.");

static PyObject *hooks_forget_places(PyObject *self, PyObject *ignored)
{
    Counter *c = &((Hooks *)self)->c;
    (void)ignored;
    if (c->on)
        counter_forget(c);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(trap_doc, "trap(key, sixteenths, begins)\n\nLet time pass above EL1.");

static PyObject *hooks_trap(PyObject *self, PyObject *args)
{
    unsigned long long key, sixteenths;
    int begins;
    if (!PyArg_ParseTuple(args, "KKp", &key, &sixteenths, &begins))
        return NULL;
    counter_trap(&((Hooks *)self)->c, key, sixteenths, begins);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(ends_doc, "ends(pc) -> (exceptions taken, blocks left by each arch.py:BlockEnd)\n\n"
                       "So far, before the instruction at pc.");

static PyObject *hooks_ends(PyObject *self, PyObject *argument)
{
    const Counter *c = &((Hooks *)self)->c;
    uint64_t pc = PyLong_AsUnsignedLongLong(argument), n[EXCEPTION_RETURN + 1] = {0};
    if (PyErr_Occurred())
        return NULL;
    counter_ends(c, pc, n);
    return Py_BuildValue("KKKKKKKKKK", c->exceptions, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7],
                         n[8]);
}

PyDoc_STRVAR(counter_doc, "counter() -> address\n\nWhere the native half of a device finds it.");

static PyObject *hooks_counter(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyLong_FromVoidPtr(&((Hooks *)self)->c);
}

PyDoc_STRVAR(follow_doc, "follow()\n\nKeep from now on who has called whom; after account().");

static PyObject *hooks_follow(PyObject *self, PyObject *ignored)
{
    Tracks *t = &((Hooks *)self)->c.tracks;
    (void)ignored;
    if (!t->on && tracks_start(t))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(run_vcpu_doc, "run_vcpu(index)\n\nAnother vCPU runs from now on.");

static PyObject *hooks_run_vcpu(PyObject *self, PyObject *argument)
{
    Tracks *t = &((Hooks *)self)->c.tracks;
    unsigned long index = PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred())
        return NULL;
    if (t->on && tracks_run_vcpu(t, (uint32_t)index))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(predict_doc, "predict(address, penalty)\n\n"
                          "The running vCPU's predictor.py:Predictor, and sixteenths for each "
                          "misprediction; 0 for none.");

static PyObject *hooks_predict(PyObject *self, PyObject *args)
{
    Counter *c = &((Hooks *)self)->c;
    unsigned long long address, penalty;
    if (!PyArg_ParseTuple(args, "KK", &address, &penalty))
        return NULL;
    c->predictor = (Predictor *)(uintptr_t)address;
    c->penalty = penalty;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(cache_doc, "cache(mine, hierarchy, shared)\n\n"
                        "The running vCPU's caches.py:Caches and what is behind them; before the "
                        "first run.");

static PyObject *hooks_cache(PyObject *self, PyObject *args)
{
    Hooks *h = (Hooks *)self;
    unsigned long long mine, hierarchy, shared;
    if (!PyArg_ParseTuple(args, "KKK", &mine, &hierarchy, &shared))
        return NULL;
    if (mine && !h->handles[6] &&
        h->api.hook_add(h->uc, &h->handles[6], HOOK_MEM_READ | HOOK_MEM_WRITE, on_memory, h, 1, 0)) {
        PyErr_SetString(PyExc_RuntimeError, "Unicorn refused a hook");
        return NULL;
    }
    h->c.caches = (CachesInUse){(Caches *)(uintptr_t)mine, (const Hierarchy *)(uintptr_t)hierarchy,
                                (uint32_t *)(uintptr_t)shared};
    Py_RETURN_NONE;
}

PyDoc_STRVAR(reset_vcpu_doc, "reset_vcpu()\n\nThe running vCPU was reset.");

static PyObject *hooks_reset_vcpu(PyObject *self, PyObject *ignored)
{
    Tracks *t = &((Hooks *)self)->c.tracks;
    (void)ignored;
    if (t->on)
        tracks_reset_vcpu(t);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(frames_doc, "frames() -> [(kind, key, parent, calls, sixteenths, instructions)]\n\n"
                         "The tree of frames (tracks.py); a parent stands before its children.");

static PyObject *hooks_frames(PyObject *self, PyObject *ignored)
{
    const Tracks *t = &((Hooks *)self)->c.tracks;
    PyObject *frames = PyList_New(t->frame_count);
    (void)ignored;
    for (uint32_t n = 0; frames && n < t->frame_count; n++) {
        const Frame *f = &t->frames[n];
        PyObject *frame = Py_BuildValue("IKIKLL", f->kind, f->key, f->parent, f->calls,
                                        f->sixteenths, f->instructions);
        if (frame)
            PyList_SET_ITEM(frames, n, frame);
        else
            Py_CLEAR(frames);
    }
    return frames;
}

PyDoc_STRVAR(last_cost_doc, "last_cost() -> sixteenths\n\n"
                            "What the last instruction of the current block was charged.");

static PyObject *hooks_last_cost(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyLong_FromUnsignedLongLong(counter_last_cost(&((Hooks *)self)->c));
}

PyDoc_STRVAR(take_back_doc, "take_back_last()\n\n"
                            "Take back the last instruction of the current block.");

static PyObject *hooks_take_back(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    counter_take_back_last(&((Hooks *)self)->c);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(lines_doc, "lines() -> [(address, charge, runs, refunded, instructions_refunded, added)]"
                        "\n\n"
                        "What every block has cost so far; `charge` is its Charge's address.");

static PyObject *hooks_lines(PyObject *self, PyObject *ignored)
{
    Counter *c = &((Hooks *)self)->c;
    PyObject *lines = PyList_New(0);
    (void)ignored;
    for (uint64_t n = 0; lines && n < c->line_room; n++) {
        Line *l = c->lines[n];
        PyObject *line = l ? Py_BuildValue("KNKKKK", l->address, PyLong_FromVoidPtr((void *)l->charge),
                                           l->runs, l->refunded, l->instructions_refunded, l->added)
                           : NULL;
        if (l && (!line || PyList_Append(lines, line)))
            Py_CLEAR(lines);
        Py_XDECREF(line);
    }
    return lines;
}

PyDoc_STRVAR(use_timers_doc, "use_timers(address)\n\n"
                             "The running vCPU's timers.py:Timers; 0 for none.");

static PyObject *hooks_use_timers(PyObject *self, PyObject *argument)
{
    Hooks *h = (Hooks *)self;
    unsigned long long address = PyLong_AsUnsignedLongLong(argument);
    if (address == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    h->timers = (Timers *)(uintptr_t)address;
    rearm(h, counter_cycles(&h->c));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(identify_doc, "identify(crm, op2, value)\n\n"
                           "What MRS of the register 3, 0, c0, crm, op2 gives.");

static PyObject *hooks_identify(PyObject *self, PyObject *args)
{
    Hooks *h = (Hooks *)self;
    unsigned int crm, op2;
    unsigned long long value;
    if (!PyArg_ParseTuple(args, "IIK", &crm, &op2, &value))
        return NULL;
    if (crm > 7 || op2 > 7) {
        PyErr_SetString(PyExc_ValueError, "CRm and op2 are at most 7");
        return NULL;
    }
    h->identification[crm << 3 | op2] = value;
    h->identified |= (uint64_t)1 << (crm << 3 | op2);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_doc, "take(kind, syndrome, return_address) -> vector\n\n"
                       "Enter EL1: `syndrome` is (), (ESR,) or (ESR, FAR).");

static PyObject *hooks_take(PyObject *self, PyObject *args)
{
    unsigned long long kind, back;
    PyObject *given;
    uint64_t syndrome[2];
    if (!PyArg_ParseTuple(args, "KO!K", &kind, &PyTuple_Type, &given, &back))
        return NULL;
    if (PyTuple_GET_SIZE(given) > 2) {
        PyErr_SetString(PyExc_ValueError, "a syndrome is at most ESR and FAR");
        return NULL;
    }
    for (Py_ssize_t n = 0; n < PyTuple_GET_SIZE(given); n++)
        syndrome[n] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(given, n));
    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLongLong(
        take((Hooks *)self, kind, (int)PyTuple_GET_SIZE(given), syndrome, back));
}

static int add_hooks(Hooks *h)
{
    Api *api = &h->api;
    if (api->hook_add(h->uc, &h->handles[0], HOOK_BLOCK, on_block, h, 1, 0) ||
        api->hook_add(h->uc, &h->handles[1], HOOK_INTR, on_interrupt, h, 1, 0) ||
        api->hook_add(h->uc, &h->handles[2], HOOK_INSN, on_mrs, h, 1, 0, INS_MRS) ||
        api->hook_add(h->uc, &h->handles[3], HOOK_INSN, on_msr, h, 1, 0, INS_MSR) ||
        api->hook_add(h->uc, &h->handles[4], HOOK_INSN, on_sys, h, 1, 0, INS_SYS) ||
        api->hook_add(h->uc, &h->handles[5], HOOK_EDGE, on_translated, h, 1, 0)) {
        PyErr_SetString(PyExc_RuntimeError, "Unicorn refused a hook");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(hooks_doc,
             "Hooks(uc, context, syndrome_offset, fault_offset, functions, registers, numbers, "
             "conduits, log, has_pan)\n\n"
             "The native half of the engine; see emu/engine/hooks.py:PythonHooks.");

static int hooks_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    Hooks *h = (Hooks *)self;
    unsigned long long uc, context, log, f[FUNCTIONS];
    unsigned int syndrome, fault;
    Numbers *n = &h->numbers;
    PyObject *registers, *hvc, *smc;
    int has_pan;
    if (keywords && PyDict_GET_SIZE(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Hooks takes no keywords");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "KKII(KKKKKKKKKKK)O!(iiiiiiiii)(OO)Kp", &uc, &context, &syndrome,
                          &fault, &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6], &f[7],
                          &f[8], &f[9], &f[10], &PyTuple_Type, &registers, &n->pc, &n->pstate,
                          &n->sp, &n->sp_el0, &n->sp_el1, &n->elr, &n->esr, &n->far, &n->vbar,
                          &hvc, &smc, &log, &has_pan))
        return -1;
    Py_XSETREF(h->hvc, Py_NewRef(hvc));
    Py_XSETREF(h->smc, Py_NewRef(smc));
    if (PyTuple_GET_SIZE(registers) != REPLIES) {
        PyErr_SetString(PyExc_ValueError, "18 registers");
        return -1;
    }
    for (int i = 0; i < REPLIES; i++) {
        h->registers[i] = (int)PyLong_AsLong(PyTuple_GET_ITEM(registers, i));
        h->places[i] = &h->values[i];
    }
    if (PyErr_Occurred())
        return -1;
    h->uc = (void *)(uintptr_t)uc;
    h->context = (void *)(uintptr_t)context;
    h->syndrome = (const uint32_t *)(uintptr_t)(context + syndrome);
    h->fault_address = (const uint64_t *)(uintptr_t)(context + fault);
    h->log = (ExceptionLog *)(uintptr_t)log;
    h->has_pan = (char)has_pan;
    h->expiry = h->cleaned = h->limit = NEVER;
    h->c.last_cost = SIXTEENTHS;
    h->api = (Api){(void *)(uintptr_t)f[0], (void *)(uintptr_t)f[1], (void *)(uintptr_t)f[2],
                   (void *)(uintptr_t)f[3], (void *)(uintptr_t)f[4], (void *)(uintptr_t)f[5],
                   (void *)(uintptr_t)f[6], (void *)(uintptr_t)f[7], (void *)(uintptr_t)f[8],
                   (void *)(uintptr_t)f[9], (void *)(uintptr_t)f[10]};
    return add_hooks(h);
}

static void hooks_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (((Hooks *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    counter_end(&((Hooks *)self)->c);
    Py_XDECREF(((Hooks *)self)->charge_of);
    Py_XDECREF(((Hooks *)self)->hvc);
    Py_XDECREF(((Hooks *)self)->smc);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef hooks_members[] = {
    {"instructions", T_ULONGLONG, offsetof(Hooks, c.instructions), 0, "retired instructions"},
    {"kept_cost", T_ULONGLONG, offsetof(Hooks, c.last_cost), 0,
     "last_cost() before the first block of a machine that was loaded"},
    {"places", T_ULONGLONG, offsetof(Hooks, c.site_count), READONLY,
     "places of translated code whose block is known"},
    {"exception_cost", T_ULONGLONG, offsetof(Hooks, exception_cost), 0,
     "sixteenths that taking an exception costs"},
    {"exact", T_ULONGLONG, offsetof(Hooks, exact), READONLY, "the cycle of a register access"},
    {"exact_instructions", T_ULONGLONG, offsetof(Hooks, exact_instructions), READONLY,
     "the instructions retired before it"},
    {"asked", T_BOOL, offsetof(Hooks, asked), READONLY, "a handler stopped the run"},
    {"late", T_BOOL, offsetof(Hooks, late), READONLY, "a deadline or an interrupt stopped it"},
    {"watched", T_BOOL, offsetof(Hooks, watched), 0, "every exception goes to the handler"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Hooks, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* What is worked out when it is read, or changes what else is looked at when it is written. */
enum { CYCLES, FRACTION, DEADLINE, INTERRUPTS, STALE };

static PyObject *get_number(PyObject *self, void *which)
{
    const Hooks *h = (Hooks *)self;
    switch ((intptr_t)which) {
    case CYCLES:
        return PyLong_FromUnsignedLongLong(counter_cycles(&h->c));
    case FRACTION:
        return PyLong_FromUnsignedLongLong(h->c.time % SIXTEENTHS);
    case DEADLINE:
        return PyLong_FromUnsignedLongLong(h->deadline);
    case INTERRUPTS:
        return PyLong_FromUnsignedLong(h->interrupts);
    default:
        return PyBool_FromLong(h->stale);
    }
}

static int set_number(PyObject *self, PyObject *value, void *which)
{
    Hooks *h = (Hooks *)self;
    uint64_t number;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "a counter cannot be deleted");
        return -1;
    }
    number = PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred())
        return -1;
    switch ((intptr_t)which) {
    case CYCLES:
        if (number > NEVER / SIXTEENTHS) {
            PyErr_SetString(PyExc_OverflowError, "cycles have 60 bits");
            return -1;
        }
        h->c.time = number * SIXTEENTHS + h->c.time % SIXTEENTHS;
        break;
    case FRACTION:
        h->c.time = h->c.time / SIXTEENTHS * SIXTEENTHS + number % SIXTEENTHS;
        break;
    case DEADLINE:
        h->deadline = number;
        break;
    case INTERRUPTS:
        h->interrupts = (uint32_t)number;
        break;
    default:
        h->stale = number != 0;
    }
    set_limit(h);
    return 0;
}

static PyGetSetDef hooks_getset[] = {
    {"cycles", get_number, set_number, "cycles since power-on", (void *)CYCLES},
    {"fraction", get_number, set_number, "sixteenths of the next cycle", (void *)FRACTION},
    {"deadline", get_number, set_number, "no block starts at or after it", (void *)DEADLINE},
    {"interrupts", get_number, set_number,
     "PSTATE.I and .F of interrupts that are pending: no block starts where one is clear",
     (void *)INTERRUPTS},
    {"stale", get_number, set_number, "the guest wants all code translated anew", (void *)STALE},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef hooks_methods[] = {
    {"start", hooks_start, METH_VARARGS, start_doc},
    {"stop", hooks_stop, METH_NOARGS, stop_doc},
    {"refund", hooks_refund, METH_O, refund_doc},
    {"account", hooks_account, METH_O, account_doc},
    {"forget_places", hooks_forget_places, METH_NOARGS, forget_places_doc},
    {"trap", hooks_trap, METH_VARARGS, trap_doc},
    {"ends", hooks_ends, METH_O, ends_doc},
    {"counter", hooks_counter, METH_NOARGS, counter_doc},
    {"follow", hooks_follow, METH_NOARGS, follow_doc},
    {"run_vcpu", hooks_run_vcpu, METH_O, run_vcpu_doc},
    {"reset_vcpu", hooks_reset_vcpu, METH_NOARGS, reset_vcpu_doc},
    {"predict", hooks_predict, METH_VARARGS, predict_doc},
    {"cache", hooks_cache, METH_VARARGS, cache_doc},
    {"frames", hooks_frames, METH_NOARGS, frames_doc},
    {"last_cost", hooks_last_cost, METH_NOARGS, last_cost_doc},
    {"take_back_last", hooks_take_back, METH_NOARGS, take_back_doc},
    {"lines", hooks_lines, METH_NOARGS, lines_doc},
    {"use_timers", hooks_use_timers, METH_O, use_timers_doc},
    {"identify", hooks_identify, METH_VARARGS, identify_doc},
    {"take", hooks_take, METH_VARARGS, take_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot hooks_slots[] = {
    {Py_tp_doc, (void *)hooks_doc}, {Py_tp_init, hooks_init},       {Py_tp_dealloc, hooks_dealloc},
    {Py_tp_members, hooks_members}, {Py_tp_getset, hooks_getset},   {Py_tp_methods, hooks_methods},
    {Py_tp_new, PyType_GenericNew},
    {0, NULL},
};

PyType_Spec hooks_spec = {"emu.engine._native.Hooks", sizeof(Hooks), 0, Py_TPFLAGS_DEFAULT, hooks_slots};
