import kit_shim
