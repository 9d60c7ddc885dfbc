"""Generated from proto/ by `make gen`. Not edited."""
