/* SPDX-License-Identifier: Apache-2.0 */
/* What is mapped into a process, read when a stack needs it: after an exec, and after code was mapped. */
#include "tracer.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct line {
	unsigned long long start, end, offset, ino;
	unsigned major, minor;
	char perms[5];
	char *path;
};

static bool parse(char *text, struct line *out)
{
	int used = 0;
	text[strcspn(text, "\n")] = 0;
	if (sscanf(text, "%llx-%llx %4s %llx %x:%x %llu %n", &out->start, &out->end, out->perms, &out->offset,
		   &out->major, &out->minor, &out->ino, &used) < 7)
		return false;
	out->path = text + used;
	return true;
}

static FILE *open_maps(pid_t pid)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	return fopen(path, "re");
}

/* Tells the mapped code of `p`, unless that was done and nothing has changed.  While one of its threads is inside
 * an mmap, what is read may lack that one: it is read again next time. */
void tell_mappings(struct process *p)
{
	char text[8192];
	struct line line;
	if (p->maps_known)
		return;
	FILE *maps = open_maps(p->pid);
	if (!maps)
		return;
	while (fgets(text, sizeof(text), maps))
		if (parse(text, &line) && line.perms[2] == 'x' && (line.path[0] == '/' || !strcmp(line.path, "[vdso]")))
			tell_mapping(p->pid, line.start, line.end, line.offset, line.path);
	fclose(maps);
	p->maps_known = !p->mapping;
}

/* The file and offset behind an address in shared memory, by which processes name the same futex. */
bool shared_place(pid_t pid, u64 address, u64 *ino, u64 *offset)
{
	char text[8192];
	struct line line;
	bool found = false;
	FILE *maps = open_maps(pid);
	if (!maps)
		return false;
	while (!found && fgets(text, sizeof(text), maps))
		found = parse(text, &line) && line.perms[3] == 's' && address >= line.start && address < line.end;
	fclose(maps);
	if (found) {
		*ino = (u64)line.major << 52 | (u64)line.minor << 40 | line.ino;
		*offset = line.offset + (address - line.start);
	}
	return found;
}
