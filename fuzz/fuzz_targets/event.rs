//! Any bytes as an event: refused, or taken, written and read again with every field.
#![no_main]

#[path = "../../tests/common/json_check.rs"]
mod json_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    json_check::check(bytes);
});
