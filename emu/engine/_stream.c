/* A device's fast half, for emu/engine/mmio.py. */
#include "_native.h"

#include "_counter.h"

/* A device in front of a byte stream, such as a UART: bytes written to one register are gathered
 * and handed on by the line, and a status register that cannot change is answered here. All else
 * is the Python device's, which finds every byte written before. */
enum { GATHERED = 1024 };

typedef struct {
    PyObject_HEAD
    PyObject *read, *write, *flush;
    uint64_t status_offset, data_offset, status;
    Counter *counter; /* whose time an access takes; NULL where it takes none */
    uint64_t key, price; /* as what it is told, and sixteenths of a cycle */
    char at_once; /* whether a byte may raise an interrupt, so that none waits for others */
    char known; /* whether `status` holds until the next flush */
    Py_ssize_t used;
    char bytes[GATHERED];
} Stream;

static void pay(Stream *s)
{
    if (s->counter)
        counter_trap(s->counter, s->key, s->price, 1);
}

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
    pay(s);
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
    pay(s);
    if (offset == s->data_offset) {
        s->bytes[s->used++] = (char)value;
        if (!s->at_once && s->used < GATHERED && (char)value != '\n')
            return;
    }
    lock = PyGILState_Ensure();
    hand_on(s);
    if (offset != s->data_offset) {
        done = PyObject_CallFunction(s->write, "KIK", (unsigned long long)offset, size,
                                     (unsigned long long)value);
        if (done)
            s->at_once = done == Py_True;
        else
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

PyDoc_STRVAR(stream_doc, "Stream(read, write, flush, status_offset, data_offset, counter, key, price)\n\n"
                         "A device's fast half; see mmio.py. An access costs `price` sixteenths, "
                         "told as `key`, unless the counter's address is 0.");

static int stream_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    Stream *s = (Stream *)self;
    unsigned long long status_offset, data_offset, counter, key, price;
    (void)keywords;
    if (s->read) {
        PyErr_SetString(PyExc_RuntimeError, "a Stream is made once");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "OOOKKKKK", &s->read, &s->write, &s->flush, &status_offset,
                          &data_offset, &counter, &key, &price)) {
        s->read = s->write = s->flush = NULL;
        return -1;
    }
    Py_INCREF(s->read);
    Py_INCREF(s->write);
    Py_INCREF(s->flush);
    s->status_offset = status_offset;
    s->data_offset = data_offset;
    s->counter = (Counter *)(uintptr_t)counter;
    s->key = key;
    s->price = price;
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
    {"at_once", T_BOOL, offsetof(Stream, at_once), 0, "whether each byte is handed on by itself"},
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

PyType_Spec stream_spec = {"emu.engine._native.Stream", sizeof(Stream), 0, Py_TPFLAGS_DEFAULT,
                                  stream_slots};
