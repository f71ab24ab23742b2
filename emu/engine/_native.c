/* The fast half of the emulator, for emu/engine/hooks.py and emu/engine/mmio.py.
 *
 * It decides nothing: what it does is written once more, in Python, and tests hold the two to the
 * same result. Unicorn's functions come as addresses from the library that the Python package
 * loaded, so nothing is linked against it.
 */
#include "_native.h"

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "emu.engine._native", "Unicorn's hooks in C.", -1,
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
