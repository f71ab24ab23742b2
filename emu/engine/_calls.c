/* HVC and SMC: one call of a Python function, and the registers it answers with. Its twin is
 * calls.py.
 */
#include "_hooks.h"

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

/* Have the call just trapped answered; 0, or -1 and a Python error. */
int calls_answer(Hooks *h, PyObject *conduit)
{
    PyObject *arguments[3] = {conduit, NULL, NULL}, *reply = NULL;
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
