//! The `kith` program.

fn main() -> std::process::ExitCode {
    kith_node::main()
}
