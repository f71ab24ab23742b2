/* What Unicorn reports: who answers it, and entering EL1. Its twin is exceptions.py.
 *
 * What nobody wants to hear of is taken here without Python, as engine.py:Engine._on_exception and
 * taken.py:ExceptionLog.note would; entry itself is emu/arm/el1.py:take_exception, which has the
 * reasons for the order of its writes.
 */
#include "_hooks.h"

/* exceptions.py has the source. */
enum { INTR_UNDEFINED = 1, INTR_SVC, INTR_PREFETCH_ABORT, INTR_DATA_ABORT };
enum { INTR_BRK = 7, INTR_HVC = 11, INTR_SMC = 13 };
enum { STORM_LIMIT = 1000 }; /* taken.py:ExceptionLog.LIMIT */
/* emu/arm/arch.py; CLASSES is emu/cycles/tracks.py:IRQ. */
enum { PSTATE_SPSEL = 1, PSTATE_AFTER_EXCEPTION = 0x3c5 };
enum { PSTATE_PAN = 1 << 22, SCTLR_SPAN = 1 << 23 };
enum { VECTOR = 0x80, VECTOR_CURRENT_SPX = 0x200, VECTOR_LOWER = 0x400, CLASSES = 64 };

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
    taken = (Taken){pc - (svc ? WORD : 0), syndrome[0], abort ? syndrome[1] : 0,
                    (uint64_t)abort, 1};
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

static int on_exception(Hooks *h, uint32_t intno)
{
    PyObject *done = PyObject_CallFunction(h->exception, "I", intno);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

void on_interrupt(void *uc, uint32_t intno, void *user)
{
    Hooks *h = user;
    int result;
    (void)uc;
    if (h->failed) /* Unicorn is still unwinding after an error: nothing more is answered */
        return;
    if (take_alone(h, intno))
        return;
    PyEval_RestoreThread(h->thread);
    if (intno == INTR_HVC || intno == INTR_SMC) {
        result = calls_answer(h, intno == INTR_HVC ? h->hvc : h->smc);
    } else {
        result = intno == INTR_UNDEFINED ? registers_on_undefined(h) : 0;
        if (!result)
            result = on_exception(h, intno);
    }
    if (result < 0)
        fail(h);
    h->thread = PyEval_SaveThread();
}

const char hooks_take_doc[] =
    "take(kind, syndrome, return_address) -> vector\n\n"
    "Enter EL1: `syndrome` is (), (ESR,) or (ESR, FAR).";

PyObject *hooks_take(PyObject *self, PyObject *args)
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
