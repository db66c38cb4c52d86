//! Puts the exploring scheduler behind the crate's `src/sync.rs`, and opens `internals`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cfg=wsync_shuttle");
    println!("cargo:rustc-cfg=wsync_internals");
}
