"""The one seam to where objects live."""
