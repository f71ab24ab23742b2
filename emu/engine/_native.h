/* What the files of the native half have in common. */
#ifndef EMU_NATIVE_H
#define EMU_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

extern PyType_Spec hooks_spec;  /* _hooks.c */
extern PyType_Spec stream_spec; /* _stream.c */

#endif
