/* Results leave through semihosting: a file of the host, written by QEMU in one instruction.
 *
 * The serial port moves a byte per trap; a recording is megabytes. QEMU >= 7.2 offers
 * semihosting to EL0 (`-semihosting-config enable=on,userspace=on`). The numbers are those of
 * Arm's "Semihosting for AArch32 and AArch64": HLT #0xF000, w0 the operation, x1 the block.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm.h"

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_EXIT = 0x18 };
enum { OPEN_WB = 5 };
#define ADP_STOPPED_APPLICATION_EXIT 0x20026

static char buffer[1 << 20];
static size_t filled;
static int handle = -1;

static long semihosting(long op, const void *block)
{
	register long x0 __asm__("x0") = op;
	register const void *x1 __asm__("x1") = block;

	__asm__ volatile("hlt #0xf000" : "+r"(x0) : "r"(x1) : "memory");
	return x0;
}

int host_open(const char *name)
{
	uint64_t block[3] = {(uintptr_t)name, OPEN_WB, strlen(name)};

	return (int)semihosting(SYS_OPEN, block);
}

void host_exit(void)
{
	uint64_t block[2] = {ADP_STOPPED_APPLICATION_EXIT, 0};

	for (;;)
		semihosting(SYS_EXIT, block);
}

void out_to(int opened)
{
	handle = opened;
}

void out_flush(void)
{
	uint64_t block[3] = {(uint64_t)handle, (uintptr_t)buffer, filled};

	if (filled)
		semihosting(SYS_WRITE, block);
	filled = 0;
}

void out(const char *format, ...)
{
	va_list list;

	if (filled > sizeof(buffer) - 0x1000)
		out_flush();
	va_start(list, format);
	filled += (size_t)vsnprintf(buffer + filled, 0x1000, format, list);
	va_end(list);
}

void out_bytes(const char *key, const uint8_t *bytes, size_t count)
{
	out(" %s=", key);
	for (size_t i = 0; i < count; i++)
		out("%02x", bytes[i]);
}
