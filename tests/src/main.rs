//! `kith` built beside the tests, so that they never run a stale one.

fn main() -> std::process::ExitCode {
    kith_node::main()
}
