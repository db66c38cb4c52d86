//! Every kept seed through its target.

use std::path::Path;

#[test]
fn all_seeds_pass() {
    let targets: [(&str, fn(&[u8])); 7] = [
        ("response_head", crate::response_head),
        ("request_head", crate::request_head),
        ("extensions", crate::extensions),
        ("frames", crate::frames),
        ("frames_deflate", crate::frames_deflate),
        ("round_trip", crate::round_trip),
        ("tungstenite", crate::tungstenite),
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
