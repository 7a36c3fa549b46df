/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Patterns as clew.model.rules.kernel packs them, run over bytes: compiled for BPF and for the tracer.  Whoever includes
 * it has the number types and __always_inline.
 *
 * Bit i of a state says "the first i elements of the pattern are matched".  A byte moves every bit whose
 * next element takes that byte one place up; a bit that has a star before its next element also stays
 * where it is.  There is no backtracking, so each byte costs the same few instructions (4 ns for argv).
 */
#ifndef CLEW_GLOB_H
#define CLEW_GLOB_H

struct clew_glob {
	u64 mask[256][2]; /* by byte: the states whose next element takes it */
	u64 loop[2];      /* the states that have a star before their next element */
	u64 accept[2];    /* the one state in which all elements are matched */
};

struct clew_glob_state {
	u64 at[2];
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

/* The same, but begins anew after each slash: what is accepted in the end is a path's last component. */
static __always_inline void clew_glob_step_name(const struct clew_glob *glob, volatile struct clew_glob_state *state,
						u8 byte)
{
	if (byte == '/') {
		state->at[0] = 1;
		state->at[1] = 0;
	} else {
		clew_glob_step(glob, state, byte);
	}
}
#endif
