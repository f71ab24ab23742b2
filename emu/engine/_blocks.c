/* What begins: a block, which may have to wait; a load or a store; a translation. Its twin is
 * blocks.py, which has the reasons.
 *
 * Every block of the guest passes on_block: what it does is inline, here and in _counter.h.
 */
#include "_hooks.h"

/* DDI 0487, D2 "Software Step exceptions". */
enum { PSTATE_D = 1 << 9, MDSCR_SS = 1 << 0, MDSCR_KDE = 1 << 13 };

/* Whatever may keep a block from starting has changed. */
void blocks_set_limit(Hooks *h)
{
    uint64_t due = h->deadline < h->expiry ? h->deadline : h->expiry;
    h->limit = due < NEVER / SIXTEENTHS ? due * SIXTEENTHS : NEVER;
    if (h->stale || h->interrupts || h->steps)
        h->limit = 0;
}

/* This is what MDSCR_EL1 holds now. */
void blocks_note_steps(Hooks *h, uint64_t value)
{
    h->steps = (value & (MDSCR_SS | MDSCR_KDE)) == (MDSCR_SS | MDSCR_KDE);
    blocks_set_limit(h);
}

/* Have Unicorn see MDSCR_EL1.SS: blocks.py:Blocks.look_at_steps has the reasons. */
void blocks_look_at_steps(Hooks *h)
{
    CpReg mdscr = {.crm = 2, .op0 = 2, .op2 = 2};
    mdscr.val = get_system(h, mdscr);
    blocks_note_steps(h, mdscr.val);
    h->looked = h->steps;
    if (h->steps)
        h->api.reg_write(h->uc, REG_CP_REG, &mdscr);
}

/* A block met for the first time at this place: what it costs, by its bytes. */
static Site *look_at_block(Hooks *h, uintptr_t place, uint64_t address, uint32_t size)
{
    PyObject *code, *found;
    const Charge *charge = NULL;
    Site *site = NULL;
    uint64_t physical = address;
    if (h->c.fresh_count > 1 || (h->c.fresh_count && h->c.fresh != address))
        counter_forget(&h->c);
    h->c.fresh_count = 0;
    if (!size) /* a software step that is due: no instruction (counter.py:begin) */
        return NULL;
    PyEval_RestoreThread(h->thread);
    code = PyBytes_FromStringAndSize(NULL, size);
    if (code && !h->api.vmem_read(h->uc, address, PROT_EXEC, PyBytes_AS_STRING(code), size) &&
        (found = PyObject_CallOneArg(h->charge_of, code))) {
        charge = (const Charge *)PyLong_AsVoidPtr(found);
        Py_DECREF(found);
    }
    Py_XDECREF(code);
    if (h->c.caches.mine && h->api.vmem_translate(h->uc, address, PROT_EXEC, &physical))
        physical = address;
    if (charge && !(site = counter_keep(&h->c, place, address, physical, charge)))
        PyErr_NoMemory();
    if (PyErr_Occurred())
        fail(h);
    h->thread = PyEval_SaveThread();
    return site;
}

/* Where in Unicorn's translated code a hook was called from. */
#define CALLER() ((uintptr_t)__builtin_return_address(0))

/* Whether the run has to stop before this block, as it does in the end where `limit` is reached. */
static int must_stop(Hooks *h)
{
    uint64_t cycles = counter_cycles(&h->c);
    if (cycles >= h->deadline || cycles >= h->expiry || h->stale ||
        (h->interrupts && h->interrupts & ~get(h, h->numbers.pstate)) ||
        (h->steps && !h->looked && !(get(h, h->numbers.pstate) & PSTATE_D)))
        return 1;
    h->looked = 0;
    return 0;
}

void on_block(void *uc, uint64_t address, uint32_t size, void *user)
{
    Hooks *h = user;
    Counter *c = &h->c;
    Site *site = NULL;
    (void)uc;
    /* Before it is charged: the block runs after a restart. */
    if (UNLIKELY(c->time >= h->limit) && must_stop(h)) {
        h->late = 1;
        h->api.emu_stop(h->uc);
        return;
    }
    if (c->on && !(site = counter_find(c, CALLER(), address, size)))
        site = look_at_block(h, CALLER(), address, size);
    counter_begin(c, address, size, site);
}

/* A load or a store, at a physical address. */
void on_memory(void *uc, int kind, uint64_t address, int size, int64_t value, void *user)
{
    Counter *c = &((Hooks *)user)->c;
    (void)uc;
    (void)size;
    (void)value;
    if (c->caches.mine)
        counter_access(c, address, kind == MEM_WRITE);
}

/* Unicorn translates: the place it writes may have stood for another block. */
void on_translated(void *uc, const Translated *now, const Translated *before, void *user)
{
    Counter *c = &((Hooks *)user)->c;
    (void)uc;
    (void)before;
    c->fresh = now->pc;
    c->fresh_count++;
}
