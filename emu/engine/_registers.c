/* MRS and MSR: identification registers, and those that Python is asked for. Its twin is
 * registers.py, which has the sources.
 */
#include "_hooks.h"

enum { CRN_IDENTIFICATION = 0, CRN_PRIORITY = 4, CRN_MONITOR = 9, CRN_GIC = 12, CRM_PRIORITY = 6 };
enum { KNOWN_COUNTERS = 4, CYCLE = 31 };

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

/* ISR_EL1, of which Unicorn reads zero. */
static int is_isr(const CpReg *reg)
{
    return reg->op0 == 3 && reg->op1 == 0 && reg->crn == CRN_GIC && reg->crm == 1 && reg->op2 == 0;
}

static int is_mdscr(const CpReg *reg)
{
    return reg->op0 == 2 && reg->op1 == 0 && reg->crn == 0 && reg->crm == 2 && reg->op2 == 2;
}

/* When the access at pc happens, for the handler that is asked. */
static void note_moment(Hooks *h, uint64_t pc)
{
    h->exact = counter_cycles_at(&h->c, pc);
    h->exact_instructions = counter_instructions_at(&h->c, pc);
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
static uint32_t on_access(Hooks *h, const CpReg *reg, int is_write, int destination)
{
    h->access.valid = 0;
    if (h->failed)
        return 0;
    if (reg->crn == CRN_TIMER && reg->crm < CRM_EVENTS)
        return timer_hook_on_access(h, reg, is_write, destination);
    if (reg->crn == CRN_IDENTIFICATION && !is_write)
        return on_identification(h, reg, destination);
    if (is_write && is_mdscr(reg))
        blocks_note_steps(h, reg->val);
    if (reg->op0 != 3 || (!is_monitor(reg) && !is_gic(reg) && !is_isr(reg)))
        return 0;
    if (is_isr(reg) && (is_write || !(get(h, h->numbers.pstate) & PSTATE_EL)))
        return 0;
    if (is_isr(reg) || (is_monitor(reg) && !is_unknown_counter(reg)))
        return ask_in_place(h, reg, is_write, destination);
    /* Unicorn would skip what it does not know for ever: it is answered when it reports it. */
    h->access.reg = *reg;
    h->access.pc = get(h, h->numbers.pc);
    h->access.destination = destination;
    h->access.is_write = (char)is_write;
    h->access.valid = 1;
    return 0;
}

uint32_t on_mrs(void *uc, int destination, const CpReg *reg, void *user)
{
    (void)uc;
    return on_access(user, reg, 0, destination);
}

uint32_t on_msr(void *uc, int source, const CpReg *reg, void *user)
{
    (void)uc;
    return on_access(user, reg, 1, source);
}

/* An instruction that is UNDEFINED to Unicorn: 1 if it was an access that has been answered. */
int registers_on_undefined(Hooks *h)
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

const char hooks_identify_doc[] =
    "identify(crm, op2, value)\n\n"
    "What MRS of the register 3, 0, c0, crm, op2 gives.";

PyObject *hooks_identify(PyObject *self, PyObject *args)
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
