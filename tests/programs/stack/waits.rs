// Rust names: a trait's method on a generic type, and a closure, waiting for standard input.
use std::io::{Read, Write};

mod inner {
    pub struct Reader<T> {
        pub value: T,
    }

    impl<T: Copy + Into<i64>> Reader<T> {
        #[inline(never)]
        pub fn take(&self, f: impl Fn(i64) -> i64) -> i64 {
            f(self.value.into()) + 1
        }
    }

    pub trait Waits {
        fn wait_here(&self) -> i64;
    }

    impl Waits for Reader<i32> {
        #[inline(never)]
        fn wait_here(&self) -> i64 {
            self.take(|x| super::block(x)) + 1
        }
    }
}

use inner::Waits;

#[inline(never)]
fn block(x: i64) -> i64 {
    let mut byte = [0u8; 1];
    std::io::stdin().read_exact(&mut byte).map_or(x, |()| x + i64::from(byte[0]))
}

fn main() {
    print!("r");
    std::io::stdout().flush().unwrap();
    let reader = inner::Reader { value: 3i32 };
    std::process::exit(reader.wait_here() as i32);
}
