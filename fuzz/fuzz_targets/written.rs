//! An event made of any bytes: written, and read again as it was, or refused by the writer as by the reader.
#![no_main]

#[path = "../../tests/common/json_written.rs"]
mod json_written;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    json_written::check(bytes);
});
