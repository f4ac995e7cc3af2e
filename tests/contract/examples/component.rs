//! Makes a component of a core module: `component MODULE COMPONENT`.

use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let [module, component] = [1, 2].map(|at| env::args().nth(at).unwrap_or_default());
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.validate(true).module(&fs::read(module)?)?;
    fs::write(component, encoder.encode()?)?;
    Ok(())
}
