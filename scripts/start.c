// What a static PIE needs beside musl: its first instructions, which relocate it.
//
// musl has the first (rcrt1.o), but only since 1.2.4 one that knows packed relocations (DT_RELR), which are
// 21 kB shorter. scripts/build compiles this file for the binaries for which it compiles std.
#include <elf.h>
#include <stddef.h>

int main(int, char **, char **);
_Noreturn int __libc_start_main(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                                void (*)(void));

// The beginning of the file in memory, and its table of what the linker has left to do. Hidden, so that their
// addresses are known before anything is relocated.
extern __attribute__((visibility("hidden"))) const char __ehdr_start[];
extern __attribute__((visibility("hidden"))) const Elf64_Dyn _DYNAMIC[];

// What the first instructions find out: where the file is in memory, and the linker's table. This file is the
// first that is linked. So what is read-only after relocation begins on a page with the one, and the rest
// with the other: each further page that they reach into would be memory of every process.
__attribute__((visibility("hidden"), section(".data.rel.ro"), aligned(4096))) size_t base;
__attribute__((visibility("hidden"), section(".data"), aligned(4096))) size_t table[37];

#if defined(__x86_64__)
enum { RELATIVE = R_X86_64_RELATIVE };
__asm__(".globl _start\n"
        "_start:\n"
        "xor %ebp, %ebp\n"
        "mov %rsp, %rdi\n"
        "and $-16, %rsp\n"
        "call start_in_c\n");
#elif defined(__aarch64__)
enum { RELATIVE = R_AARCH64_RELATIVE };
__asm__(".globl _start\n"
        "_start:\n"
        "mov x29, #0\n"
        "mov x30, #0\n"
        "mov x0, sp\n"
        "and sp, x0, #-16\n"
        "b start_in_c\n");
#endif

// Adds the place where the file is to the pointers in it (gABI, "Relocation": RELATIVE, and SHT_RELR: the
// address of a pointer, then bitmaps of which of the next 63 words are pointers, too).
__attribute__((visibility("hidden"), used)) _Noreturn void start_in_c(long *stack) {
    base = (size_t)__ehdr_start;
    for (const Elf64_Dyn *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag < (long)(sizeof table / sizeof *table)) table[entry->d_tag] = entry->d_un.d_val;
    const Elf64_Rela *rela = (const void *)(base + table[DT_RELA]);
    for (size_t count = table[DT_RELASZ] / sizeof *rela; count; count--, rela++)
        if (ELF64_R_TYPE(rela->r_info) == RELATIVE)
            *(size_t *)(base + rela->r_offset) = base + rela->r_addend;
    enum { RELRSZ = 35, RELR = 36 };
    const size_t *relr = (const void *)(base + table[RELR]);
    size_t *place = NULL;
    for (size_t count = table[RELRSZ] / sizeof *relr; count; count--, relr++) {
        if (*relr % 2 == 0) {
            place = (size_t *)(base + *relr);
            *place++ += base;
            continue;
        }
        for (size_t bits = *relr >> 1, *word = place; bits; bits >>= 1, word++)
            if (bits % 2) *word += base;
        place += 63;
    }
    __libc_start_main(main, (int)*stack, (char **)(stack + 1), NULL, NULL, NULL);
}
