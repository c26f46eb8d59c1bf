//! What the embedded image `hello` runs: it tells what the container sees.

/// Prints the explanation; returns the exit code.
pub fn run() -> i32 {
    println!("Hello from Wharf!");
    0
}
