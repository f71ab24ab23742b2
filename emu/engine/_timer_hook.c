/* The generic timer's registers, and when a timer is due. Its twin is timer_hook.py; the arithmetic
 * is that of emu/arm/timers.py, whose memory this works on.
 */
#include "_hooks.h"

/* emu/arm/timers.py has the sources. */
enum { CRM_COUNTER = 0, CRM_PHYSICAL = 2, CRM_VIRTUAL = 3 };
enum { OP2_TVAL = 0, OP2_CTL = 1, OP2_CVAL = 2, CTL_ENABLE = 1, CTL_IMASK = 2, CTL_ISTATUS = 4 };

__extension__ typedef unsigned __int128 Wide; /* cycles times a frequency */

static Wide ticks_at(const Timers *t, uint64_t cycles)
{
    return (Wide)cycles * t->ticks / t->cycles;
}

static uint64_t count(const Timers *t, int timer, uint64_t cycles)
{
    return (uint64_t)ticks_at(t, cycles) - t->offset[timer];
}

static int is_on(const Timers *t, int timer)
{
    return (t->ctl[timer] & (CTL_ENABLE | CTL_IMASK)) == CTL_ENABLE;
}

static uint64_t expiry(const Timers *t, int timer, uint64_t cycles)
{
    uint64_t now = count(t, timer, cycles), cval = t->cval[timer];
    Wide due;
    if (!is_on(t, timer) || t->known >> timer & 1)
        return NEVER;
    due = (ticks_at(t, cycles) + (cval > now ? cval - now : 0)) * t->cycles;
    due = (due + t->ticks - 1) / t->ticks;
    return due < NEVER ? (uint64_t)due : NEVER;
}

static void rearm(Hooks *h, uint64_t cycles)
{
    uint64_t physical, virtual;
    physical = h->timers ? expiry(h->timers, 0, cycles) : NEVER;
    virtual = h->timers ? expiry(h->timers, 1, cycles) : NEVER;
    h->expiry = physical < virtual ? physical : virtual;
    blocks_set_limit(h);
}

static int read_timer(const Timers *t, const CpReg *reg, int timer, uint64_t cycles,
                      uint64_t *value)
{
    uint64_t now = count(t, timer, cycles);
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

static int write_timer(Timers *t, const CpReg *reg, int timer, uint64_t cycles)
{
    uint64_t now = count(t, timer, cycles);
    if (reg->crm == CRM_COUNTER || reg->op2 > OP2_CVAL)
        return 0;
    if (reg->op2 == OP2_CTL)
        t->ctl[timer] = reg->val & (CTL_ENABLE | CTL_IMASK);
    else
        t->cval[timer] = reg->op2 == OP2_CVAL ? reg->val
                                              : now + (uint64_t)(int64_t)(int32_t)reg->val;
    if (!is_on(t, timer) || now < t->cval[timer])
        t->known &= ~((uint64_t)1 << timer);
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

/* An MRS or MSR of CRn 14, below the monitor's: true when it is done. */
uint32_t timer_hook_on_access(Hooks *h, const CpReg *reg, int is_write, int destination)
{
    int timer = timer_of(reg);
    uint64_t cycles, value;
    if (timer < 0 || !h->timers || !may_use(h, reg, timer))
        return 0;
    cycles = counter_cycles_at(&h->c, get(h, h->numbers.pc));
    if (is_write) {
        if (!write_timer(h->timers, reg, timer, cycles))
            return 0;
        rearm(h, cycles);
        return 1;
    }
    if (!read_timer(h->timers, reg, timer, cycles, &value))
        return 0;
    set(h, destination, value);
    return 1;
}

const char hooks_use_timers_doc[] =
    "use_timers(address)\n\n"
    "The running vCPU's timers.py:Timers; 0 for none.";

PyObject *hooks_use_timers(PyObject *self, PyObject *argument)
{
    Hooks *h = (Hooks *)self;
    unsigned long long address = PyLong_AsUnsignedLongLong(argument);
    if (address == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    h->timers = (Timers *)(uintptr_t)address;
    rearm(h, counter_cycles(&h->c));
    Py_RETURN_NONE;
}
