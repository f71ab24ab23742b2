/*
 * hello: the smallest guest. It greets, and switches the machine off the way the device tree says.
 *
 * Without /psci there is nobody to ask, and semihosting ends the run.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"hello from EL1"
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);
    puts("hello from EL1\n");
    power_off();
}
