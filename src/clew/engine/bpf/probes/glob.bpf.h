/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Patterns in the kernel: what clew.model.rules.kernel packs, run over bytes.
 *
 * Bit i of a state says "the first i elements of the pattern are matched".  A byte moves every bit whose
 * next element takes that byte one place up; a bit that has a star before its next element also stays
 * where it is.  There is no backtracking, so each byte costs the same few instructions (4 ns for argv).
 *
 * The functions marked __checked_once cost the verifier nothing where they are called, so a caller may
 * feed a long text chunk by chunk (pointer arguments of global functions: commit e5069b9c23b3, Linux 5.12).
 */
#ifndef CLEW_GLOB_BPF_H
#define CLEW_GLOB_BPF_H

#include "kernel.bpf.h"

/* Texts are fed in parts, which are short because they stand on a stack of 512 bytes. */
#define CLEW_GLOB_CHUNK 128
/* A file name has at most 255 bytes (NAME_MAX), and its NUL. */
#define CLEW_GLOB_NAME 256

struct clew_glob {
	u64 mask[256][2]; /* by byte: the states whose next element takes it */
	u64 loop[2];      /* the states that have a star before their next element */
	u64 accept[2];    /* the one state in which all elements are matched */
};

struct clew_glob_state {
	u64 at[2];
};

struct clew_glob_chunk {
	u8 bytes[CLEW_GLOB_CHUNK];
};
struct clew_glob_name {
	u8 bytes[CLEW_GLOB_NAME];
};

/* A command line on its way past a pattern. */
struct clew_glob_argv {
	struct clew_glob_state argument; /* over the argument so far */
	struct clew_glob_state line;     /* over all arguments so far, joined by single spaces */
	u64 argument_matched;          /* an argument matched as a whole */
	u64 line_matched;              /* the line up to the last NUL matched */
	u64 unfinished;                /* bytes came after the last NUL */
};

static __always_inline void clew_glob_begin(struct clew_glob_state *state)
{
	state->at[0] = 1;
	state->at[1] = 0;
}

/*
 * States go through memory, hence volatile: what the verifier finds there is "any number", so that the
 * paths through a loop meet again after each byte instead of being followed one by one to its end.
 */
static __always_inline void clew_glob_step(const struct clew_glob *glob, volatile struct clew_glob_state *state,
					   u8 byte)
{
	u64 low = state->at[0], high = state->at[1];
	u64 stay_low = low & glob->loop[0], stay_high = high & glob->loop[1];

	low &= glob->mask[byte][0];
	high &= glob->mask[byte][1];
	state->at[1] = (high << 1 | low >> 63) | stay_high;
	state->at[0] = low << 1 | stay_low;
}

static __always_inline int clew_glob_accepts(const struct clew_glob *glob, const struct clew_glob_state *state)
{
	return ((state->at[0] & glob->accept[0]) | (state->at[1] & glob->accept[1])) != 0;
}

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
	for (u32 i = 0; i < CLEW_GLOB_CHUNK && i < length; i++) {
		if (chunk->bytes[i] == '/') {
			at->at[0] = 1;
			at->at[1] = 0;
		} else {
			clew_glob_step(glob, state, chunk->bytes[i]);
		}
	}
	return 0;
}

/* Whether the pattern matches the name, which ends at its first NUL. */
__checked_once int clew_glob_matches(const struct clew_glob *glob, const struct clew_glob_name *name)
{
	struct clew_glob_state state;

	if (!glob || !name)
		return 0;
	clew_glob_begin(&state);
	for (u32 i = 0; i < CLEW_GLOB_NAME && name->bytes[i]; i++)
		clew_glob_step(glob, &state, name->bytes[i]);
	return clew_glob_accepts(glob, &state);
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
