/* init of the recorder's initramfs: a VMM that carries out a plan and writes down what happened.
 *
 * It runs on an unmodified kernel at EL2 and knows nothing about hypercalls: plan.py says which
 * ioctl to make with which arguments, and each line of the plan gets one line of results. So
 * what is recorded can change without a change here, and a plan is all that a replay needs.
 *
 * A line of the plan is words: the operation, then its arguments, numbers in hexadecimal. A
 * line of results is ` key=value` words; `r` is the ioctl's return value, or minus its errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vmm.h"

#define MAX_WORDS 64

static char *load(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	char *text;

	if (fd < 0 || fstat(fd, &st))
		return NULL;
	*size = (size_t)st.st_size;
	text = mmap(NULL, *size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	return text == MAP_FAILED ? NULL : text;
}

static void carry_out(char *line)
{
	char *word[MAX_WORDS];
	int words = 0;

	for (char *w = strtok(line, " "); w && words < MAX_WORDS; w = strtok(NULL, " "))
		word[words++] = w;
	if (words)
		operation(words, word);
	out("\n");
}

/* By hand: a library's strchr may measure the whole rest of the plan first, each time. */
static void carry_out_all(char *text, const char *end)
{
	for (char *line = text; text < end; text++)
		if (*text == '\n') {
			*text = 0;
			carry_out(line);
			line = text + 1;
		}
}

int main(void)
{
	struct utsname name;
	size_t size = 0;
	char *plan;

	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	out_to(host_open("results"));
	uname(&name);
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	out("release=%s\nversion=%s\nkvm=%d\n", name.release, name.version,
	    kvm_fd < 0 ? -errno : 0);
	plan = load("/plan", &size);
	if (plan && kvm_fd >= 0) {
		watchdog_setup();
		carry_out_all(plan, plan + size);
		out("end\n");
	}
	out_flush();
	host_exit();
}
