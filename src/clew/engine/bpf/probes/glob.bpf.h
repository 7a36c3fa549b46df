/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Patterns in the kernel: what clew.model.rules.kernel packs, run over bytes.
 *
 * The functions marked __checked_once cost the verifier nothing where they are called, so a caller may
 * feed a long text chunk by chunk (pointer arguments of global functions: commit e5069b9c23b3, Linux 5.12).
 */
#ifndef CLEW_GLOB_BPF_H
#define CLEW_GLOB_BPF_H

#include "kernel.bpf.h"
#include "glob.h"

/* Texts are fed in parts, which are short because they stand on a stack of 512 bytes. */
#define CLEW_GLOB_CHUNK 128
#define CLEW_GLOB_CHUNKS 33 /* PATH_MAX in steps of 127 */

struct clew_glob_chunk {
	u8 bytes[CLEW_GLOB_CHUNK];
};

/* A command line on its way past a pattern. */
struct clew_glob_argv {
	struct clew_glob_state argument; /* over the argument so far */
	struct clew_glob_state line;     /* over all arguments so far, joined by single spaces */
	u64 argument_matched;          /* an argument matched as a whole */
	u64 line_matched;              /* the line up to the last NUL matched */
	u64 unfinished;                /* bytes came after the last NUL */
};

/* Moves the state over the first "length" bytes of the chunk (all of it if there are fewer). */
__checked_once int clew_glob_feed(const struct clew_glob *glob, struct clew_glob_state *state,
				  const struct clew_glob_chunk *chunk, u32 length)
{
	if (!glob || !state || !chunk)
		return 0;
	for (u32 i = 0; i < CLEW_GLOB_CHUNK && i < length; i++)
		clew_glob_step(glob, state, chunk->bytes[i]);
	return 0;
}

/* The same, but begins anew after each slash: what is accepted in the end is a path's last component. */
__checked_once int clew_glob_feed_last(const struct clew_glob *glob, struct clew_glob_state *state,
				       const struct clew_glob_chunk *chunk, u32 length)
{
	volatile struct clew_glob_state *at = state;

	if (!glob || !state || !chunk)
		return 0;
	for (u32 i = 0; i < CLEW_GLOB_CHUNK && i < length; i++)
		clew_glob_step_name(glob, at, chunk->bytes[i]);
	return 0;
}

/* What part of a text is held against the pattern. */
enum { FEED_ALL, FEED_LAST_NAME };

/* Moves the state over a string at a kernel or (of the current task) user address; 0 if it cannot be read to its end. */
__checked_once int clew_glob_feed_at(const struct clew_glob *glob, struct clew_glob_state *state, u64 address, u32 user,
				     u32 mode)
{
	struct clew_glob_chunk chunk = {};

	if (!glob || !state || !address)
		return 0;
	for (int i = 0; i < CLEW_GLOB_CHUNKS; i++) {
		const void *from = (const void *)(address + i * (CLEW_GLOB_CHUNK - 1));
		long n = user ? bpf_probe_read_user_str(chunk.bytes, sizeof(chunk.bytes), from)
			      : bpf_probe_read_kernel_str(chunk.bytes, sizeof(chunk.bytes), from);
		if (n <= 0)
			return 0;
		if (mode == FEED_LAST_NAME)
			clew_glob_feed_last(glob, state, &chunk, n - 1);
		else
			clew_glob_feed(glob, state, &chunk, n - 1);
		if (n < CLEW_GLOB_CHUNK)
			return 1;
	}
	return 0;
}

static __always_inline void clew_glob_argv_begin(const struct clew_glob *glob, struct clew_glob_argv *argv)
{
	clew_glob_begin(&argv->argument);
	clew_glob_begin(&argv->line);
	argv->argument_matched = argv->unfinished = 0;
	argv->line_matched = clew_glob_accepts(glob, &argv->line); /* no arguments are an empty line */
}

/*
 * Moves over the first "length" bytes of the chunk: the next part of what lies between mm->arg_start
 * and mm->arg_end, where every argument ends in a NUL.
 */
__checked_once int clew_glob_argv_feed(const struct clew_glob *glob, struct clew_glob_argv *argv,
				       const struct clew_glob_chunk *chunk, u32 length)
{
	volatile struct clew_glob_argv *at = argv;

	if (!glob || !argv || !chunk)
		return 0;
	for (u32 i = 0; i < CLEW_GLOB_CHUNK && i < length; i++) {
		u8 byte = chunk->bytes[i];

		at->unfinished = byte;
		if (byte) {
			clew_glob_step(glob, &argv->argument, byte);
		} else {
			at->argument_matched |= clew_glob_accepts(glob, &argv->argument);
			at->line_matched = clew_glob_accepts(glob, &argv->line);
			at->argument.at[0] = 1;
			at->argument.at[1] = 0;
			byte = ' ';
		}
		clew_glob_step(glob, &argv->line, byte);
	}
	return 0;
}

/* Whether the pattern matches an argument, or the line, of what was fed. */
static __always_inline int clew_glob_argv_accepts(const struct clew_glob *glob, const struct clew_glob_argv *argv)
{
	if (argv->argument_matched)
		return 1;
	/* A line cut short, or overwritten by setproctitle(3), has no NUL at its end. */
	if (argv->unfinished)
		return clew_glob_accepts(glob, &argv->argument) || clew_glob_accepts(glob, &argv->line);
	return argv->line_matched != 0;
}

#endif
