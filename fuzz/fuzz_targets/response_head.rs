#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wsync_fuzz::response_head(data));
