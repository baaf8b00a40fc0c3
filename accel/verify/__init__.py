"""Running the engine's Verilog: Verilator under cocotb, with the simulator's own memory model behind its ports."""
