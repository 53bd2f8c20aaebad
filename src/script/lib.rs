//! The Lua 5.1 engine of EVAL and FUNCTION.
