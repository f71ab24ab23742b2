/* The type `Hooks`, put together: Unicorn's hooks in C, as hooks.py:PythonHooks is in Python.
 *
 * It counts, compares deadlines, keeps the generic timer's registers, enters the exceptions that
 * nobody wants to hear of, notices an interrupt that is no longer masked, and turns an HVC, an SMC
 * or an access to a system register that is not modelled here into one call of a Python function.
 * _hooks.h says which file does what.
 */
#include "_hooks.h"

/* unicorn 2.1.4 include/unicorn/unicorn.h: UC_HOOK_*; arm64.h: UC_ARM64_INS_*. */
enum { HOOK_INTR = 1, HOOK_INSN = 2, HOOK_BLOCK = 8, HOOK_EDGE = 1 << 15 };
enum { HOOK_MEM_READ = 1 << 10, HOOK_MEM_WRITE = 1 << 11 };
enum { INS_MRS = 1, INS_MSR, INS_SYS };
enum { FUNCTIONS = 11 };

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
    blocks_look_at_steps(h);
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
        h->api.hook_add(h->uc, &h->handles[6], HOOK_MEM_READ | HOOK_MEM_WRITE, on_memory, h, 1,
                        0)) {
        PyErr_SetString(PyExc_RuntimeError, "Unicorn refused a hook");
        return NULL;
    }
    h->c.caches = (CachesInUse){(Caches *)(uintptr_t)mine, (const Hierarchy *)(uintptr_t)hierarchy,
                                (uint32_t *)(uintptr_t)shared};
    Py_RETURN_NONE;
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
    blocks_set_limit(h);
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
    {"cache", hooks_cache, METH_VARARGS, cache_doc},
    {"use_timers", hooks_use_timers, METH_O, hooks_use_timers_doc},
    {"identify", hooks_identify, METH_VARARGS, hooks_identify_doc},
    {"take", hooks_take, METH_VARARGS, hooks_take_doc},
    {"account", hooks_account, METH_O, hooks_account_doc},
    {"forget_places", hooks_forget_places, METH_NOARGS, hooks_forget_places_doc},
    {"refund", hooks_refund, METH_O, hooks_refund_doc},
    {"take_back_last", hooks_take_back_last, METH_NOARGS, hooks_take_back_last_doc},
    {"last_cost", hooks_last_cost, METH_NOARGS, hooks_last_cost_doc},
    {"trap", hooks_trap, METH_VARARGS, hooks_trap_doc},
    {"predict", hooks_predict, METH_VARARGS, hooks_predict_doc},
    {"follow", hooks_follow, METH_NOARGS, hooks_follow_doc},
    {"run_vcpu", hooks_run_vcpu, METH_O, hooks_run_vcpu_doc},
    {"reset_vcpu", hooks_reset_vcpu, METH_NOARGS, hooks_reset_vcpu_doc},
    {"counter", hooks_counter, METH_NOARGS, hooks_counter_doc},
    {"ends", hooks_ends, METH_O, hooks_ends_doc},
    {"lines", hooks_lines, METH_NOARGS, hooks_lines_doc},
    {"frames", hooks_frames, METH_NOARGS, hooks_frames_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot hooks_slots[] = {
    {Py_tp_doc, (void *)hooks_doc}, {Py_tp_init, hooks_init},     {Py_tp_dealloc, hooks_dealloc},
    {Py_tp_members, hooks_members}, {Py_tp_getset, hooks_getset}, {Py_tp_methods, hooks_methods},
    {Py_tp_new, PyType_GenericNew},
    {0, NULL},
};

PyType_Spec hooks_spec = {"emu.engine._native.Hooks", sizeof(Hooks), 0, Py_TPFLAGS_DEFAULT,
                          hooks_slots};
