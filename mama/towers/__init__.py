"""Image and text towers: timm and transformers models behind two small interfaces."""
