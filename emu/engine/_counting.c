/* What Python asks of the counter: the methods of Hooks that PythonHooks has from
 * emu/cycles/counter.py:Counter, which is their twin.
 */
#include "_hooks.h"

const char hooks_account_doc[] =
    "account(charges)\n\n"
    "From now on a block costs what these block_costs.py:Charges say.";

PyObject *hooks_account(PyObject *self, PyObject *charges)
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

const char hooks_forget_places_doc[] = "forget_places()\n\nAll translated code is gone.";

PyObject *hooks_forget_places(PyObject *self, PyObject *ignored)
{
    Counter *c = &((Hooks *)self)->c;
    (void)ignored;
    if (c->on)
        counter_forget(c);
    Py_RETURN_NONE;
}

const char hooks_refund_doc[] =
    "refund(pc)\n\n"
    "Take back the part of the current block that starts at pc.";

PyObject *hooks_refund(PyObject *self, PyObject *argument)
{
    uint64_t pc = PyLong_AsUnsignedLongLong(argument);
    if (pc == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    counter_refund(&((Hooks *)self)->c, pc);
    Py_RETURN_NONE;
}

const char hooks_take_back_last_doc[] =
    "take_back_last()\n\n"
    "Take back the last instruction of the current block.";

PyObject *hooks_take_back_last(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    counter_take_back_last(&((Hooks *)self)->c);
    Py_RETURN_NONE;
}

const char hooks_last_cost_doc[] =
    "last_cost() -> sixteenths\n\n"
    "What the last instruction of the current block was charged.";

PyObject *hooks_last_cost(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyLong_FromUnsignedLongLong(counter_last_cost(&((Hooks *)self)->c));
}

const char hooks_trap_doc[] = "trap(key, sixteenths, begins)\n\nLet time pass above EL1.";

PyObject *hooks_trap(PyObject *self, PyObject *args)
{
    unsigned long long key, sixteenths;
    int begins;
    if (!PyArg_ParseTuple(args, "KKp", &key, &sixteenths, &begins))
        return NULL;
    counter_trap(&((Hooks *)self)->c, key, sixteenths, begins);
    Py_RETURN_NONE;
}

const char hooks_predict_doc[] =
    "predict(address, penalty)\n\n"
    "The running vCPU's predictor.py:Predictor, and sixteenths for each misprediction; 0 for "
    "none.";

PyObject *hooks_predict(PyObject *self, PyObject *args)
{
    Counter *c = &((Hooks *)self)->c;
    unsigned long long address, penalty;
    if (!PyArg_ParseTuple(args, "KK", &address, &penalty))
        return NULL;
    c->predictor = (Predictor *)(uintptr_t)address;
    c->penalty = penalty;
    Py_RETURN_NONE;
}

const char hooks_follow_doc[] =
    "follow()\n\n"
    "Keep from now on who has called whom; after account().";

PyObject *hooks_follow(PyObject *self, PyObject *ignored)
{
    Tracks *t = &((Hooks *)self)->c.tracks;
    (void)ignored;
    if (!t->on && tracks_start(t))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

const char hooks_run_vcpu_doc[] = "run_vcpu(index)\n\nAnother vCPU runs from now on.";

PyObject *hooks_run_vcpu(PyObject *self, PyObject *argument)
{
    Tracks *t = &((Hooks *)self)->c.tracks;
    unsigned long index = PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred())
        return NULL;
    if (t->on && tracks_run_vcpu(t, (uint32_t)index))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

const char hooks_reset_vcpu_doc[] = "reset_vcpu()\n\nThe running vCPU was reset.";

PyObject *hooks_reset_vcpu(PyObject *self, PyObject *ignored)
{
    Tracks *t = &((Hooks *)self)->c.tracks;
    (void)ignored;
    if (t->on)
        tracks_reset_vcpu(t);
    Py_RETURN_NONE;
}

const char hooks_counter_doc[] =
    "counter() -> address\n\n"
    "Where the native half of a device finds it.";

PyObject *hooks_counter(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyLong_FromVoidPtr(&((Hooks *)self)->c);
}

const char hooks_ends_doc[] =
    "ends(pc) -> (exceptions taken, blocks left by each arch.py:BlockEnd)\n\n"
    "So far, before the instruction at pc.";

PyObject *hooks_ends(PyObject *self, PyObject *argument)
{
    const Counter *c = &((Hooks *)self)->c;
    uint64_t pc = PyLong_AsUnsignedLongLong(argument), n[EXCEPTION_RETURN + 1] = {0};
    if (PyErr_Occurred())
        return NULL;
    counter_ends(c, pc, n);
    return Py_BuildValue("KKKKKKKKKK", c->exceptions, n[0], n[1], n[2], n[3], n[4], n[5], n[6],
                         n[7], n[8]);
}

const char hooks_lines_doc[] =
    "lines() -> [(address, charge, runs, refunded, instructions_refunded, added)]\n\n"
    "What every block has cost so far; `charge` is its Charge's address.";

PyObject *hooks_lines(PyObject *self, PyObject *ignored)
{
    Counter *c = &((Hooks *)self)->c;
    PyObject *lines = PyList_New(0);
    (void)ignored;
    for (uint64_t n = 0; lines && n < c->line_room; n++) {
        const Line *l = c->lines[n];
        PyObject *line = NULL;
        if (l)
            line = Py_BuildValue("KNKKKK", l->address, PyLong_FromVoidPtr((void *)l->charge),
                                 l->runs, l->refunded, l->instructions_refunded, l->added);
        if (l && (!line || PyList_Append(lines, line)))
            Py_CLEAR(lines);
        Py_XDECREF(line);
    }
    return lines;
}

const char hooks_frames_doc[] =
    "frames() -> [(kind, key, parent, calls, sixteenths, instructions)]\n\n"
    "The tree of frames (tracks.py); a parent stands before its children.";

PyObject *hooks_frames(PyObject *self, PyObject *ignored)
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
