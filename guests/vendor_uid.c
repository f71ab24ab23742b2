/*
 * vendor_uid: who is the hypervisor? The one question every vendor answers alike (DEN0028):
 * a UUID in four 32-bit words, the first byte lowest. Asked legally, by HVC and since SMCCC 1.1.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"KVM" console~"28b46fb6-2ec5-11e9-a9ca-4b564d003a74"
#include "lib/guest.h"

int main(const void *dtb) {
    u32 words[4];
    machine_read(dtb);
    if (vendor_uid(words)) {
        printf("the hypervisor is %s, UUID ", vendor_name(words));
        print_uuid(words);
        putc('\n');
    } else {
        puts("nobody answers for the vendor-specific hypervisor range\n");
    }
    power_off();
}
