"""Reading programs' code: ELF files, symbols, lines, instructions; what runs here meets hostile files."""
