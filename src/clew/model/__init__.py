"""Pure data: identities, events, frames, rules, flows.  No I/O, no imports from the rest of clew."""
