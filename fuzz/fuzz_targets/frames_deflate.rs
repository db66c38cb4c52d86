#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wsync_fuzz::frames_deflate(data));
