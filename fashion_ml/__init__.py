"""fashion_ml: fine-tune image models for fashion and know whether it worked."""
