/* The fast half of emu/engine.py: Unicorn's hooks in C.
 *
 * It counts, compares the deadline, reads the counter registers, gathers a UART's bytes and turns
 * an HVC or SMC into one call of a Python function. It decides nothing: what it does is written once more, in Python, in
 * engine.py:PythonHooks, and a test holds the two to the same result. Unicorn's functions come as
 * addresses from the library that the Python package loaded, so nothing is linked against it.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

enum { INTR_HVC = 11, INTR_SMC = 13 };
enum { ARGUMENTS = 8, REPLIES = 18, WORD = 4 };
enum { HOOK_INTR = 1, HOOK_INSN = 2, HOOK_BLOCK = 8, INS_MRS = 1 };
enum { CRN_TIMER = 14, OP2_CNTPCT = 1, OP2_CNTVCT = 2 };
/* CNTP_* and CNTV_* are not modelled: a timer keeps nothing and compares with zero. Unicorn would
 * answer from the host's clock. */
enum { CRM_CNTP = 2, CRM_CNTV = 3, OP2_TVAL = 0, OP2_CVAL = 2 };

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
} Api;

typedef struct {
    PyObject_HEAD
    Api api;
    void *uc, *context;
    const uint32_t *syndrome; /* inside the context, at the calibrated offset */
    uint64_t instructions, cycles, deadline, block_start;
    uint32_t block_size, cycles_per_tick;
    int pc_register;
    char asked, late, failed;
    PyObject *hvc, *smc;             /* what the handler gets for the conduit */
    PyObject *hypercall, *exception; /* borrowed while start() runs */
    PyThreadState *thread;
    PyObject *weakrefs;
    int registers[REPLIES];
    uint64_t values[REPLIES];
    void *places[REPLIES];
    uintptr_t handles[3];
} Hooks;

static void stop(Hooks *h)
{
    h->asked = 1;
    h->api.emu_stop(h->uc);
}

static void on_block(void *uc, uint64_t address, uint32_t size, void *user)
{
    Hooks *h = user;
    (void)uc;
    if (h->cycles >= h->deadline) { /* before it is charged: the block runs after a restart */
        h->late = 1;
        h->api.emu_stop(h->uc);
        return;
    }
    h->block_start = address;
    h->block_size = size;
    h->instructions += size / WORD;
    h->cycles += size / WORD;
}

/* Cycles retired before the instruction at pc, which lies in the block being executed. */
static uint64_t cycles_at(Hooks *h, uint64_t pc)
{
    uint64_t inside = pc - h->block_start;
    return inside > h->block_size ? h->cycles : h->cycles - (h->block_size - inside) / WORD;
}

static uint32_t on_mrs(void *uc, int destination, const CpReg *reg, void *user)
{
    Hooks *h = user;
    uint64_t pc = 0, value;
    int timer = reg->crm == CRM_CNTP || reg->crm == CRM_CNTV;
    if (reg->crn != CRN_TIMER || reg->op0 != 3 || reg->op1 != 3)
        return 0;
    h->api.reg_read(uc, h->pc_register, &pc);
    value = cycles_at(h, pc) / h->cycles_per_tick;
    if (timer && reg->op2 == OP2_TVAL)
        value = -value & 0xFFFFFFFF;
    else if (timer && reg->op2 == OP2_CVAL)
        value = 0;
    else if (reg->crm != 0 || (reg->op2 != OP2_CNTPCT && reg->op2 != OP2_CNTVCT))
        return 0;
    h->api.reg_write(uc, destination, &value);
    return 1;
}

/* Write the reply's registers, x0 upward. */
static int write_reply(Hooks *h, PyObject *reply)
{
    Py_ssize_t count = PyTuple_Check(reply) ? PyTuple_GET_SIZE(reply) : -1;
    if (count < 0 || count > REPLIES) {
        PyErr_SetString(PyExc_TypeError, "a reply is None or a tuple of at most 18 integers");
        return -1;
    }
    for (Py_ssize_t n = 0; n < count; n++) {
        h->values[n] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(reply, n));
        if (h->values[n] == (uint64_t)-1 && PyErr_Occurred())
            return -1;
    }
    if (count)
        h->api.reg_write_batch(h->uc, h->registers, (void *const *)h->places, (int)count);
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

static void on_interrupt(void *uc, uint32_t intno, void *user)
{
    Hooks *h = user;
    int result;
    (void)uc;
    if (h->failed) /* Unicorn is still unwinding after an error: nothing more is answered */
        return;
    PyEval_RestoreThread(h->thread);
    result = intno == INTR_HVC || intno == INTR_SMC ? on_hypercall(h, intno)
                                                    : on_exception(h, intno);
    if (result < 0) { /* the Python error stays set; start() returns it */
        h->failed = 1;
        stop(h);
    }
    h->thread = PyEval_SaveThread();
}

PyDoc_STRVAR(start_doc, "start(pc, until, hypercall, exception) -> uc_err\n\n"
                        "Run guest code until Unicorn stops, with the interpreter lock released.");

static PyObject *hooks_start(PyObject *self, PyObject *args)
{
    Hooks *h = (Hooks *)self;
    unsigned long long pc, until;
    int error;
    if (!PyArg_ParseTuple(args, "KKOO", &pc, &until, &h->hypercall, &h->exception))
        return NULL;
    h->asked = h->late = h->failed = 0;
    h->thread = PyEval_SaveThread();
    error = h->api.emu_start(h->uc, pc, until, 0, 0);
    PyEval_RestoreThread(h->thread);
    h->hypercall = h->exception = NULL;
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
    Hooks *h = (Hooks *)self;
    uint64_t pc = PyLong_AsUnsignedLongLong(argument), unexecuted;
    if (pc == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    unexecuted = h->cycles - cycles_at(h, pc);
    h->cycles -= unexecuted;
    h->instructions -= unexecuted;
    h->block_size -= (uint32_t)unexecuted * WORD;
    Py_RETURN_NONE;
}

static int add_hooks(Hooks *h)
{
    Api *api = &h->api;
    if (api->hook_add(h->uc, &h->handles[0], HOOK_BLOCK, on_block, h, 1, 0) ||
        api->hook_add(h->uc, &h->handles[1], HOOK_INTR, on_interrupt, h, 1, 0) ||
        api->hook_add(h->uc, &h->handles[2], HOOK_INSN, on_mrs, h, 1, 0, INS_MRS)) {
        PyErr_SetString(PyExc_RuntimeError, "Unicorn refused a hook");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(hooks_doc,
             "Hooks(uc, context, syndrome_offset, functions, registers, pc, cycles_per_tick, hvc, "
             "smc)\n\nThe native half of the engine; see engine.py:PythonHooks.");

static int hooks_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    Hooks *h = (Hooks *)self;
    unsigned long long uc, context, f[8];
    unsigned int offset;
    PyObject *registers;
    if (keywords && PyDict_GET_SIZE(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Hooks takes no keywords");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "KKI(KKKKKKKK)O!iIOO", &uc, &context, &offset, &f[0], &f[1], &f[2],
                          &f[3], &f[4], &f[5], &f[6], &f[7], &PyTuple_Type, &registers,
                          &h->pc_register, &h->cycles_per_tick, &h->hvc, &h->smc))
        return -1;
    Py_INCREF(h->hvc);
    Py_INCREF(h->smc);
    if (PyTuple_GET_SIZE(registers) != REPLIES || !h->cycles_per_tick) {
        PyErr_SetString(PyExc_ValueError, "18 registers and a tick of at least one cycle");
        return -1;
    }
    for (int n = 0; n < REPLIES; n++) {
        h->registers[n] = (int)PyLong_AsLong(PyTuple_GET_ITEM(registers, n));
        h->places[n] = &h->values[n];
    }
    if (PyErr_Occurred())
        return -1;
    h->uc = (void *)(uintptr_t)uc;
    h->context = (void *)(uintptr_t)context;
    h->syndrome = (const uint32_t *)(uintptr_t)(context + offset);
    h->api = (Api){(void *)(uintptr_t)f[0], (void *)(uintptr_t)f[1], (void *)(uintptr_t)f[2],
                   (void *)(uintptr_t)f[3], (void *)(uintptr_t)f[4], (void *)(uintptr_t)f[5],
                   (void *)(uintptr_t)f[6], (void *)(uintptr_t)f[7]};
    return add_hooks(h);
}

static void hooks_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (((Hooks *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(((Hooks *)self)->hvc);
    Py_XDECREF(((Hooks *)self)->smc);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef hooks_members[] = {
    {"instructions", T_ULONGLONG, offsetof(Hooks, instructions), 0, "retired instructions"},
    {"cycles", T_ULONGLONG, offsetof(Hooks, cycles), 0, "cycles since power-on"},
    {"deadline", T_ULONGLONG, offsetof(Hooks, deadline), 0, "no block starts at or after it"},
    {"asked", T_BOOL, offsetof(Hooks, asked), READONLY, "a handler stopped the run"},
    {"late", T_BOOL, offsetof(Hooks, late), READONLY, "the deadline stopped the run"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Hooks, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef hooks_methods[] = {
    {"start", hooks_start, METH_VARARGS, start_doc},
    {"stop", hooks_stop, METH_NOARGS, stop_doc},
    {"refund", hooks_refund, METH_O, refund_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot hooks_slots[] = {
    {Py_tp_doc, (void *)hooks_doc}, {Py_tp_init, hooks_init},       {Py_tp_dealloc, hooks_dealloc},
    {Py_tp_members, hooks_members}, {Py_tp_methods, hooks_methods}, {Py_tp_new, PyType_GenericNew},
    {0, NULL},
};

static PyType_Spec hooks_spec = {"emu._native.Hooks", sizeof(Hooks), 0, Py_TPFLAGS_DEFAULT,
                                 hooks_slots};

/* A device in front of a byte stream, such as a UART: bytes written to one register are gathered
 * and handed on by the line, and a status register that cannot change is answered here. All else
 * is the Python device's, which finds every byte written before. */
enum { GATHERED = 1024 };

typedef struct {
    PyObject_HEAD
    PyObject *read, *write, *flush;
    uint64_t status_offset, data_offset, status;
    char known; /* whether `status` holds until the next flush */
    Py_ssize_t used;
    char bytes[GATHERED];
} Stream;

/* None of the three functions raises: engine.py keeps their errors. */
static void hand_on(Stream *s)
{
    PyObject *done;
    if (!s->used)
        return;
    done = PyObject_CallFunction(s->flush, "y#", s->bytes, s->used);
    s->used = 0;
    if (!done)
        PyErr_WriteUnraisable(s->flush);
    Py_XDECREF(done);
}

static uint64_t stream_read(void *uc, uint64_t offset, unsigned size, void *user)
{
    Stream *s = user;
    PyGILState_STATE lock;
    PyObject *answer;
    uint64_t value = 0;
    (void)uc;
    if (s->known && offset == s->status_offset)
        return s->status;
    lock = PyGILState_Ensure();
    hand_on(s);
    answer = PyObject_CallFunction(s->read, "KI", (unsigned long long)offset, size);
    if (answer)
        value = PyLong_AsUnsignedLongLongMask(answer);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(s->read);
    Py_XDECREF(answer);
    PyGILState_Release(lock);
    return value;
}

static void stream_write(void *uc, uint64_t offset, unsigned size, uint64_t value, void *user)
{
    Stream *s = user;
    PyGILState_STATE lock;
    PyObject *done;
    (void)uc;
    if (offset == s->data_offset) {
        s->bytes[s->used++] = (char)value;
        if (s->used < GATHERED && (char)value != '\n')
            return;
    }
    lock = PyGILState_Ensure();
    hand_on(s);
    if (offset != s->data_offset) {
        done = PyObject_CallFunction(s->write, "KIK", (unsigned long long)offset, size,
                                     (unsigned long long)value);
        if (!done)
            PyErr_WriteUnraisable(s->write);
        Py_XDECREF(done);
    }
    PyGILState_Release(lock);
}

PyDoc_STRVAR(flush_doc, "hand_on()\n\nGive what was gathered to the device.");

static PyObject *stream_hand_on(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    hand_on((Stream *)self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(places_doc, "places() -> (read, write, user)\n\nAddresses for uc_mmio_map.");

static PyObject *stream_places(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return Py_BuildValue("KKK", (unsigned long long)(uintptr_t)stream_read,
                         (unsigned long long)(uintptr_t)stream_write,
                         (unsigned long long)(uintptr_t)self);
}

PyDoc_STRVAR(stream_doc, "Stream(read, write, flush, status_offset, data_offset)\n\n"
                         "A device's fast half; see engine.py:map_device.");

static int stream_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    Stream *s = (Stream *)self;
    unsigned long long status_offset, data_offset;
    (void)keywords;
    if (s->read) {
        PyErr_SetString(PyExc_RuntimeError, "a Stream is made once");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "OOOKK", &s->read, &s->write, &s->flush, &status_offset,
                          &data_offset)) {
        s->read = s->write = s->flush = NULL;
        return -1;
    }
    Py_INCREF(s->read);
    Py_INCREF(s->write);
    Py_INCREF(s->flush);
    s->status_offset = status_offset;
    s->data_offset = data_offset;
    return 0;
}

static void stream_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Stream *)self)->read);
    Py_XDECREF(((Stream *)self)->write);
    Py_XDECREF(((Stream *)self)->flush);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef stream_members[] = {
    {"status", T_ULONGLONG, offsetof(Stream, status), 0, "the status register's value"},
    {"known", T_BOOL, offsetof(Stream, known), 0, "whether it can be answered from `status`"},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef stream_methods[] = {
    {"hand_on", stream_hand_on, METH_NOARGS, flush_doc},
    {"places", stream_places, METH_NOARGS, places_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)stream_doc}, {Py_tp_init, stream_init},
    {Py_tp_dealloc, stream_dealloc}, {Py_tp_members, stream_members},
    {Py_tp_methods, stream_methods}, {Py_tp_new, PyType_GenericNew},
    {0, NULL},
};

static PyType_Spec stream_spec = {"emu._native.Stream", sizeof(Stream), 0, Py_TPFLAGS_DEFAULT,
                                  stream_slots};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "emu._native", "Unicorn's hooks in C.", -1,
                             NULL, NULL, NULL, NULL, NULL};

static int add_type(PyObject *m, const char *name, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddObject(m, name, type) == 0)
        return 0;
    Py_XDECREF(type);
    return -1;
}

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *m = PyModule_Create(&module);
    if (m && (add_type(m, "Hooks", &hooks_spec) < 0 || add_type(m, "Stream", &stream_spec) < 0))
        Py_CLEAR(m);
    return m;
}
