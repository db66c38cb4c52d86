//! Runs every seed through its target.

use std::path::Path;

#[test]
fn all_seeds_pass() {
    let targets: [(&str, fn(&[u8])); 7] = [
        ("response_head", wsync_fuzz::response_head),
        ("request_head", wsync_fuzz::request_head),
        ("extensions", wsync_fuzz::extensions),
        ("frames", wsync_fuzz::frames),
        ("frames_deflate", wsync_fuzz::frames_deflate),
        ("round_trip", wsync_fuzz::round_trip),
        ("tungstenite", wsync_fuzz::tungstenite),
    ];
    for (name, target) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut count = 0;
        for seed in std::fs::read_dir(&folder).unwrap() {
            target(&std::fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}
