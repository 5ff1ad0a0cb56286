/* Sets the wall clock of one process: a library for LD_PRELOAD. Every reader of the clock
 * in the process, C or Go, goes through the kernel's vDSO, so this replaces the functions
 * there. IOTOLL_CLOCK names a file whose first 8 bytes are the offset in nanoseconds; it may
 * change at any time. The monotonic clock stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the jump into the vDSO is written for x86-64"
#endif

#define SECOND 1000000000LL

static volatile int64_t *offset;

static int get_time(clockid_t clock, struct timespec *t)
{
	long rc;
	__asm__ volatile("syscall" : "=a"(rc) : "a"(SYS_clock_gettime), "D"((long)clock), "S"(t) : "rcx", "r11", "memory");
	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		int64_t ns = t->tv_sec * SECOND + t->tv_nsec + *offset;
		t->tv_sec = ns / SECOND;
		t->tv_nsec = ns % SECOND;
	}
	return (int)rc;
}

static int get_time_of_day(struct timeval *tv, void *zone)
{
	struct timespec t;
	(void)zone;
	get_time(CLOCK_REALTIME, &t);
	if (tv)
		*tv = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
	return 0;
}

static time_t get_seconds(time_t *out)
{
	struct timespec t;
	get_time(CLOCK_REALTIME, &t);
	if (out)
		*out = t.tv_sec;
	return t.tv_sec;
}

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

/* Writes a jump over the start of a function of the vDSO. */
static void replace(void *vdso, const char *name, void *with)
{
	unsigned char jump[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; /* mov $with, %rax; jmp *%rax */
	void *at = dlvsym(vdso, name, "LINUX_2.6");
	if (!at)
		fail(name);
	memcpy(jump + 2, &with, sizeof with);
	memcpy(at, jump, sizeof jump);
}

/* Makes the vDSO writable, all at once: the kernel does not split its mapping. The section
 * headers are its end. */
static void make_writable(void)
{
	const Elf64_Ehdr *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
	if (!vdso)
		fail("vDSO");
	size_t page = sysconf(_SC_PAGESIZE), end = vdso->e_shoff + (size_t)vdso->e_shnum * vdso->e_shentsize;
	if (mprotect((void *)vdso, (end + page - 1) / page * page, PROT_READ | PROT_WRITE | PROT_EXEC))
		fail("mprotect of the vDSO");
}

__attribute__((constructor)) static void init(void)
{
	const char *path = getenv("IOTOLL_CLOCK");
	int file = path ? open(path, O_RDONLY) : -1;
	offset = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
	if (offset == MAP_FAILED)
		fail("IOTOLL_CLOCK");
	close(file);
	void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
	if (!vdso)
		fail("vDSO");
	make_writable();
	replace(vdso, "__vdso_clock_gettime", get_time);
	replace(vdso, "__vdso_gettimeofday", get_time_of_day);
	replace(vdso, "__vdso_time", get_seconds);
}
