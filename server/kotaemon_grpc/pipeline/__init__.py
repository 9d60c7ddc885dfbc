"""What every call goes through, around one seam."""
